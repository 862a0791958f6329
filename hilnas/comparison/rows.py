"""The cold runs of one model as a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contracts.comparison import TIMES, ComparedRow
from contracts.measurement import Measurement
from device_agents.comparison import Series
from hilnas.comparison.models import NamedModel
from hilnas.local import LocalMeasurer
from search_space import cost

RATES = {"prefill_ms": "prefill_tok_s", "decode_ms": "decode_tok_s"}
SHOWN = (*TIMES, *RATES.values(), "load_ms")


def model_row(
    one: Series, measured: Measurement, model: NamedModel, weights: str, local: LocalMeasurer, contexts: Sequence[int],
    session: str,
) -> ComparedRow:  # fmt: skip
    longest = max(contexts, default=0)
    return _row(one, measured, session).model_copy(
        update={
            "engine": "hilnas", "model": model.arch.label, "weights": weights, "quantization": local.quantization,
            "params": cost.params(model.arch), "weight_bytes": cost.weight_bytes(model.arch, local.quantization),
            "cache_bytes": cost.cache_bytes(model.arch, longest, local.cache_dtype),
        }
    )  # fmt: skip


def llama_row(one: Series, measured: Measurement, session: str) -> ComparedRow:
    """What it is stands in what llama-bench itself printed; without a finished run it is unknown."""
    printed = [event.record for run in one.session.events for event in run if event.event == "llama_bench"]
    told = printed[0] if printed else {}
    build = f"build {told.get('build_number', '?')} ({told.get('build_commit', '?')})"
    kind = str(told.get("model_type", "unknown"))
    return _row(one, measured, session).model_copy(
        update={
            "engine": f"llama.cpp {build}, cache {told.get('type_k', '?')}", "model": kind, "weights": "its own",
            "quantization": quantization_of(kind), "params": told.get("model_n_params"),
            "weight_bytes": told.get("model_size"),
        }
    )  # fmt: skip


def quantization_of(kind: str) -> str:
    """Of llama-bench's ``model_type``: ``qwen3 0.6B Q4_K - Medium`` -> ``Q4_K - Medium``."""
    words = kind.split()
    start = next((i for i, word in enumerate(words) if word[:1] in "QIFBT" and any(c.isdigit() for c in word)), None)
    return kind if start is None else " ".join(words[start:])


def _row(one: Series, measured: Measurement, session: str) -> ComparedRow:
    clean = one.clean()
    metrics = {key: value for key, value in measured.metrics.items() if key.partition("@")[0] in SHOWN}
    names = [key for key in metrics if key.partition("@")[0] in TIMES]
    rounds = [turn for turn, run in clean.items() if all(run.by_metric.get(name) for name in names)]
    return ComparedRow(
        name=one.entrant.name, engine="", model="", weights="", quantization="", session=session,
        verdict=measured.verdict, reason=measured.reason, metrics=metrics,
        samples={name: [clean[turn].by_metric[name] for turn in rounds] for name in names}, rounds=rounds,
        cold_runs=len(one.session.runs), environment=_readings(measured.environment),
    )  # fmt: skip


def _readings(environment: dict[str, Any]) -> dict[str, Any]:
    """Before and after the session: temperatures, caps, load."""
    return {at: reading for at, reading in environment.items() if reading}
