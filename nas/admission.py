"""What is checked of a study before it is stored: everything that its loop would only find out in the background."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from contracts.metrics import MetricKey
from contracts.plan import PROTOCOLS, Protocol
from contracts.study import StudySpec
from foundation.errors import HilnasError, InvalidConfig
from nas.export.backends import BACKENDS
from nas.objectives import decisive_metrics
from nas.samplers import SAMPLERS
from nas.starters import starters
from search_space.cost import params
from search_space.quantizable import require_quantizable_space
from search_space.space import SearchSpace, space
from search_space.space.counting import extreme

MAX_LAYERS = 512
MAX_PARAMS = 20_000_000_000  # a block of more would not fit where it is compiled
T = TypeVar("T")


def check_study(spec: StudySpec) -> None:
    """Builds all parts of the study once. Raises InvalidConfig with the first that cannot be."""
    _check_words(spec)
    build_sampler = SAMPLERS.get_or_raise(spec.sampler)
    for backend in spec.backends:
        BACKENDS.get_or_raise(backend).check(spec.quantization)
    require_measured(spec)
    found = _built("space", lambda: space(spec.space, spec.space_options))
    _require_small(found)
    require_quantizable_space(found, spec.quantization)
    _built("start_with", lambda: starters(spec, found))
    _built(f"sampler {spec.sampler}", lambda: build_sampler(spec.seed, spec, found))


def require_measured(spec: StudySpec) -> None:
    """Raises InvalidConfig for an objective or a budget that the study's protocol does not measure."""
    measured = measured_by(PROTOCOLS[spec.protocol](spec.threads))
    for key in sorted(decisive_metrics(spec)):
        asked = MetricKey.parse(key)
        if asked.metric.source == "device" and asked.base not in measured:
            raise InvalidConfig(f"protocol {spec.protocol} does not measure {asked.base}; {_what_would(asked)}")


def measured_by(protocol: Protocol) -> list[str]:
    """The metrics in a row of this protocol."""
    prompts, contexts = protocol.prefill_lengths, protocol.decode_contexts
    keys = [f"{name}@{length}" for length in prompts for name in ("prefill_ms", "prefill_tok_s", "ttft_ms")]
    decoded = ("decode_ms", "decode_tok_s", "itl_ms_p50", "itl_ms_p95")
    keys += [f"{name}@{context}" for context in contexts for name in decoded]
    return [*keys, "load_ms", *(["peak_rss_bytes"] if protocol.memory else [])]


def _what_would(asked: MetricKey) -> str:
    """The protocols that measure it, else those of its metric that are measured."""
    rows = {name: measured_by(make()) for name, make in PROTOCOLS.items()}
    if able := [name for name, keys in rows.items() if asked.base in keys]:
        return f"protocol {' or '.join(able)} does"
    alike = {name: [key for key in keys if key.partition("@")[0] == asked.metric.name] for name, keys in rows.items()}
    return "measured are " + "; ".join(f"{', '.join(keys)} ({name})" for name, keys in alike.items() if keys)


def _check_words(spec: StudySpec) -> None:
    if not spec.name.strip() or not spec.name.isprintable():
        raise InvalidConfig(f"a study's name needs letters or digits, without control characters; got {spec.name!r}")
    if spec.max_quality == 0:
        raise InvalidConfig("max_quality is 0, so no candidate would be judged: give at least 1, or leave it out")


def _require_small(found: SearchSpace) -> None:
    if found.depth > MAX_LAYERS:
        raise InvalidConfig(f"a candidate has at most {MAX_LAYERS} layers, got depth {found.depth}")
    largest = extreme(found, params, "max")
    if largest > MAX_PARAMS:
        raise InvalidConfig(f"a candidate has at most {MAX_PARAMS:,} parameters, and of this space up to {largest:,}")


def _built(what: str, build: Callable[[], T]) -> T:
    """Parts, those of plugins too, may raise anything for a value that they did not expect."""
    try:
        return build()
    except (HilnasError, ModuleNotFoundError):
        raise
    except Exception as error:
        raise InvalidConfig(f"{what} cannot be built: {type(error).__name__}: {error}"[:400]) from error
