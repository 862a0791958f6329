"""Spaces as data: an object (from YAML, JSON or a REST body) to a ``SearchSpace``. ``docs/spaces.md`` describes it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from itertools import product
from pathlib import Path
from typing import Any

from foundation.errors import InvalidConfig
from foundation.files import read_text
from foundation.json_text import read_json
from search_space.arch import SwiGLU, reject_unknown
from search_space.mixers import MIXERS, MixerConfig, mixer_from_dict
from search_space.space.choices import AUTO, Ffn, FfnTemplate, LayerChoices, Mixer, MixerTemplate
from search_space.space.constraints import CountRule, SharedRule
from search_space.space.core import ARCH_FIELDS, DEPTH, SearchSpace
from search_space.space.listed_data import architectures, candidates_of, listed, spanned

FIELDS = ("name", "about", "d_model", "vocab_size", "depth", "mixers", "ffn", "layers", "shared", "tied", "rules",
          "candidates")  # fmt: skip
ONLY_LISTED = ("name", "about", "candidates")
MAX_LAYERS, MAX_CHOICES, MAX_RULES = 256, 64, 4
MAX_BUILT = 200_000  # layers that are built once to check a space: seconds
MAX_COUNTED = 5_000_000  # steps of counting its candidates: seconds
FLAGS, NUMBERS = ("tie_embeddings", "sandwich_norm"), ("norm_eps", "rope_theta", "embedding_multiplier")
Given = dict[str, Any]


def space_from_data(data: Any, name: str = "") -> SearchSpace:
    """Raises InvalidConfig with the first field that is wrong."""
    reject_unknown("space", data, FIELDS)
    name = str(data.get("name") or name or "own_space")
    candidates = candidates_of(name, data)
    if candidates and not set(data) - set(ONLY_LISTED):
        archs = architectures(name, candidates)
        _require_small(around := spanned(name, archs))
        return around.limited_to(archs)
    shared, depth = _shared(name, data)
    layers = _layers(name, data, max(shared.get(DEPTH, (depth,))), shared)
    plain = {key: _plain(name, key, data[key]) for key in ARCH_FIELDS[2:] if key in data}
    tied = _object(f"{name}: tied", data.get("tied"), ("mixers", "ffn"))
    rules = [_object(f"{name}: rule", rule, None) for rule in _list(f"{name}: rules", data.get("rules"))]
    if len(rules) > MAX_RULES:
        raise InvalidConfig(f"{name}: at most {MAX_RULES} rules are possible, got {len(rules)}")
    fixed = {key: values[0] for key, values in shared.items() if len(values) == 1}
    found = SearchSpace(
        name, shared["d_model"][0], _whole(name, "vocab_size", data.get("vocab_size")), tuple(layers),
        {**plain, **{key: value for key, value in fixed.items() if key not in ("d_model", DEPTH)}},
        {key: values for key, values in shared.items() if len(values) > 1},
        _whole(name, "tied mixers", tied.get("mixers", 1)), _whole(name, "tied ffn", tied.get("ffn", 1)),
        tuple(_count_rule(name, rule) for rule in rules if "if" not in rule),
        tuple(_shared_rule(name, rule, shared) for rule in rules if "if" in rule),
    )  # fmt: skip
    _check(found)
    return found.limited_to(listed(found, candidates)) if candidates else found


def space_from_file(path: Path) -> SearchSpace:
    """A space in YAML, or in JSON if the file's name ends so."""
    return space_from_data(read_data(path), path.stem)


def read_data(path: Path) -> Any:
    """What a YAML or JSON file holds. Raises InvalidConfig with the place of an error."""
    text = read_text(path)
    if path.suffix == ".json":
        try:
            return read_json(text)
        except ValueError as error:
            raise InvalidConfig(f"{path} is not JSON: {error}") from None
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidConfig(f"{path} is not YAML: {' '.join(str(error).split())}") from None


# --- shared values ----------------------------------------------------------------------------------------------------


def _shared(name: str, data: Given) -> tuple[dict[str, tuple[Any, ...]], int]:
    """The shared values with their choices, and the depth where it does not vary."""
    given = dict(_object(f"{name}: shared", data.get("shared"), None))
    given.setdefault("d_model", data.get("d_model"))
    depth = data.get("depth")
    if isinstance(depth, Mapping):
        bounds = _object(f"{name}: depth", depth, ("min", "max", "step"))
        low, high = (_whole(name, f"depth {end}", bounds.get(end)) for end in ("min", "max"))
        given[DEPTH] = list(range(low, high + 1, _whole(name, "depth step", bounds.get("step", 1))))
    elif isinstance(depth, list):
        given[DEPTH] = depth
    known = {*ARCH_FIELDS, DEPTH, *(option for kind in MIXERS.values() for option in _options(kind))}
    found = {}
    for key, values in given.items():
        if key not in known:
            raise InvalidConfig(
                f"{name}: no architecture and no mixer has {key!r}; shared values: {', '.join(sorted(known))}"
            )
        listed = tuple(values) if isinstance(values, list) else (values,)
        found[key] = tuple(_plain(name, key, one) for one in listed)
    if not found.get(DEPTH, (1,)):
        raise InvalidConfig(f"{name}: depth needs min <= max, got {depth!r}")
    fixed = max(found[DEPTH]) if DEPTH in found else _whole(name, "depth", depth)
    if fixed > MAX_LAYERS:
        raise InvalidConfig(f"{name}: depth must be at most {MAX_LAYERS}, got {fixed}")
    return found, fixed


def _plain(name: str, key: str, value: Any) -> Any:
    """A shared value of the kind that its field takes; options of mixers are checked when mixers are built."""
    if key in ("d_model", "vocab_size", DEPTH):
        return _whole(name, key, value)
    if key in FLAGS and not isinstance(value, bool):
        raise InvalidConfig(f"{name}: {key} must be true or false, got {value!r}")
    if key in NUMBERS and not (_is_number(value) and 0 < value < 1e12):
        raise InvalidConfig(f"{name}: {key} must be a number above 0, got {value!r}")
    if not isinstance(value, bool) and not _is_number(value):
        raise InvalidConfig(f"{name}: {key} must be a number, true or false, got {value!r}")
    return value


def _is_number(value: Any) -> bool:
    """Finite, and small enough to be a size."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**31


# --- layers -----------------------------------------------------------------------------------------------------------


def _layers(name: str, data: Given, depth: int, shared: Given) -> list[LayerChoices]:
    """Choices of the whole space, replaced where a group under ``layers`` names the layer; later groups win."""
    groups = _list(f"{name}: layers", data.get("layers"))
    default = (data.get("mixers"), data.get("ffn"))
    chosen = [default] * depth
    for group in groups:
        reject_unknown(f"{name}: layers", group, ("at", "mixers", "ffn"))
        for index in _positions(name, group.get("at"), depth):
            chosen[index] = (group.get("mixers", chosen[index][0]), group.get("ffn", chosen[index][1]))
    made: dict[str, LayerChoices] = {}
    for pair in chosen:
        key = repr(pair)
        if key not in made:
            made[key] = LayerChoices(_mixers(name, pair[0], shared), _ffns(name, pair[1], shared))
    return [made[repr(pair)] for pair in chosen]


def _positions(name: str, at: Any, depth: int) -> list[int]:
    """``3``, ``-1``, ``[0, 3]`` or ``"2-5"`` (both included)."""
    found: list[int] = []
    for one in at if isinstance(at, list) else [at]:
        low, dash, high = str(one).partition("-") if isinstance(one, str) else (one, "", one)
        try:
            first, last = int(low), int(high if dash or not isinstance(one, str) else low)
        except (TypeError, ValueError):
            raise InvalidConfig(f'{name}: layers at must be like 3, [0, 3] or "2-5", got {at!r}') from None
        first, last = first % depth if -depth <= first < 0 else first, last % depth if -depth <= last < 0 else last
        if not 0 <= first <= last < depth:
            raise InvalidConfig(f"{name}: layers at {one!r} are not among 0 to {depth - 1}")
        found += range(first, last + 1)
    return found


def _mixers(name: str, given: Any, shared: Given) -> tuple[Mixer, ...]:
    found: list[Mixer] = []
    for one in _list(f"{name}: mixers", given):
        options = {"kind": one} if isinstance(one, str) else dict(_object(f"{name}: mixer", one, None))
        when = _when(name, options.pop("when", None), shared)
        kind = MIXERS.get_or_raise(str(options.pop("kind", "")))
        unknown = sorted(set(options) - set(_options(kind)))
        if unknown:
            known = ", ".join(_options(kind)) or "none"
            raise InvalidConfig(f"{name}: {kind.kind} has no option {unknown[0]!r}; options: {known}")
        from_shared = any(key in _options(kind) for key in shared)
        lists = [value if isinstance(value, list) else [value] for value in options.values()]
        _require_few(name, f"options of {kind.kind}", math.prod(map(len, lists)))
        for values in product(*lists):
            for value in values:
                if value != AUTO:
                    _plain(name, kind.kind, value)
            picked = dict(zip(options, values, strict=True))
            template = MixerTemplate(kind.kind, tuple(picked.items()), when)
            plain = not when and not from_shared and AUTO not in values
            found.append(mixer_from_dict({"kind": kind.kind, **picked}) if plain else template)
    _require_few(name, "mixers", len(found))
    return tuple(found)


def _options(kind: type[MixerConfig]) -> list[str]:
    return [option.name for option in fields(kind)]


def _ffns(name: str, given: Any, shared: Given) -> tuple[Ffn, ...]:
    """Each a width, a ratio like ``2.5x`` of d_model, 0 or null for none, or an object with width, activation, when."""
    found: list[Ffn] = []
    for one in _list(f"{name}: ffn", given):
        options = dict(one) if isinstance(one, Mapping) else {"width": one}
        reject_unknown(f"{name}: ffn", options, ("width", "activation", "when"))
        when = _when(name, options.get("when"), shared)
        width, activation = options.get("width"), options.get("activation", "silu")
        if isinstance(width, str):
            found.append(FfnTemplate(None, _ratio(name, width), activation, when))
            continue
        size = _whole(name, "ffn width", width) if width else 0
        if size:
            SwiGLU(size, activation).validate()
        plain = SwiGLU(size, activation) if size else None
        found.append(FfnTemplate(size or None, None, activation, when) if when else plain)
    _require_few(name, "ffn", len(found))
    return tuple(found)


def _ratio(name: str, text: str) -> float:
    try:
        found = float(text.removesuffix("x"))
    except ValueError:
        found = 0.0
    if not text.endswith("x") or not 0 < found <= 64:
        raise InvalidConfig(f"{name}: ffn must be a width like 2560 or a multiple of d_model like 2.5x, got {text!r}")
    return found


# --- rules ------------------------------------------------------------------------------------------------------------


def _count_rule(name: str, rule: Given) -> CountRule:
    reject_unknown(f"{name}: rule", rule, ("mixer", "at_least", "at_most", "layers"))
    kinds = rule.get("mixer")
    kinds = tuple(kinds) if isinstance(kinds, list) else (kinds,)
    for kind in kinds:
        MIXERS.get_or_raise(kind)
    if "at_least" not in rule and "at_most" not in rule:
        raise InvalidConfig(f"{name}: a rule on {'/'.join(kinds)} needs at_least or at_most")
    first, last = _range(name, rule.get("layers"))
    most = rule.get("at_most")
    return CountRule(
        kinds, _whole(name, "at_least", rule.get("at_least", 0), 0),
        None if most is None else _whole(name, "at_most", most, 0), first, last,
    )  # fmt: skip


def _range(name: str, given: Any) -> tuple[int, int | None]:
    """``[2, 5]``, both included; without it, all layers."""
    if given is None:
        return 0, None
    if not isinstance(given, list) or len(given) != 2:
        raise InvalidConfig(f"{name}: the layers of a rule are a first and a last one, like [2, 5], got {given!r}")
    first, last = (_whole(name, "layers of a rule", one, 0) for one in given)
    return first, last


def _shared_rule(name: str, rule: Given, shared: Given) -> SharedRule:
    reject_unknown(f"{name}: rule", rule, ("if", "then"))
    given, then = (_when(name, rule.get(part), shared) for part in ("if", "then"))
    if not given or not then:
        raise InvalidConfig(f"{name}: a rule with `if` needs shared values under `if` and `then`, got {dict(rule)}")
    return SharedRule(given, then)


def _when(name: str, given: Any, shared: Given) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    found = []
    for key, values in _object(f"{name}: when", given, None).items():
        listed = tuple(values) if isinstance(values, list) else (values,)
        choices = shared.get(key, ())
        missing = [value for value in listed if value not in choices]
        if missing:
            known = ", ".join(map(str, choices)) or "none"
            raise InvalidConfig(f"{name}: {key} is never {missing[0]!r}; its choices: {known}")
        found.append((key, listed))
    return tuple(found)


# --- checks -----------------------------------------------------------------------------------------------------------


def _check(space: SearchSpace) -> None:
    """Every choice is built once at every combination of shared values, so that no proposal fails later."""
    combinations = math.prod(map(len, space.shared.values()))
    widest = max(max(len(layer.mixers), len(layer.ffns)) for layer in space.choices)
    states = math.prod(rule.enough + 1 for rule in space.rules)
    for work, most in (
        (combinations * widest * space.depth, MAX_BUILT), (combinations * widest * space.depth * states, MAX_COUNTED),
    ):  # fmt: skip
        if work > most:
            raise InvalidConfig(
                f"{space.name} is too large to check: {combinations} combinations of shared values, {space.depth}"
                f" layers of up to {widest} choices, {len(space.rules)} rules on counts; leave out some of them"
            )
    parameters = space.parameters()
    for shared in space.shared_values():
        base = {key: labels[0] for key, labels in parameters.items()} | {key: str(shared[key]) for key in space.shared}
        for position in range(max((len(labels) for labels in parameters.values()), default=1)):
            space.relaxed({**base, **{k: v[position % len(v)] for k, v in parameters.items() if k not in space.shared}})
    if not space.num_candidates:
        raise InvalidConfig(f"{space.name}: no candidate keeps all its rules")


def _require_small(space: SearchSpace) -> None:
    """What a list of architectures spans is not larger than what a space may say itself."""
    if space.depth > MAX_LAYERS:
        raise InvalidConfig(f"{space.name}: depth must be at most {MAX_LAYERS}, got {space.depth}")
    for layer in space.choices:
        _require_few(space.name, "mixers", len(layer.mixers))
        _require_few(space.name, "ffn", len(layer.ffns))
    for key, values in space.shared.items():
        if len(values) > MAX_CHOICES:
            raise InvalidConfig(f"{space.name}: candidates may have {MAX_CHOICES} values of {key}, got {len(values)}")


def _require_few(name: str, what: str, count: int) -> None:
    if not 1 <= count <= MAX_CHOICES:
        raise InvalidConfig(f"{name}: a layer takes 1 to {MAX_CHOICES} {what}, got {count}")


def _object(owner: str, data: Any, known: tuple[str, ...] | None) -> Given:
    if data is None:
        return {}
    if known is not None:
        reject_unknown(owner, data, known)
    if not isinstance(data, dict):
        raise InvalidConfig(f"{owner}: expected an object, got {data!r}")
    return {str(key): value for key, value in data.items()}


def _list(owner: str, data: Any) -> list[Any]:
    if data is None:
        return []
    if not isinstance(data, list):
        raise InvalidConfig(f"{owner}: expected a list, got {data!r}")
    return data


def _whole(name: str, what: str, value: Any, least: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**31:
        raise InvalidConfig(f"{name}: {what} must be a whole number of at least {least}, got {value!r}")
    return value
