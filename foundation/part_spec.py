"""One syntax for a part with options, as recipes and command lines write it: ``name:argument key=value key=1,2``.

``"task:extraction count=100"``, ``"correct weight=3"`` and ``"ties density=0.5 weights=0.7,0.3"`` are parsed here, and
checked against the fields of the dataclass that takes the options.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

from foundation.errors import InvalidConfig

EXPECTED = {int: "a whole number, e.g. {key}=16", float: "a number, e.g. {key}=0.5", bool: "true or false", str: "text"}


@dataclass(frozen=True)
class PartSpec:
    """A part as written in text; ``options`` are not converted yet."""

    text: str
    name: str
    argument: str = ""
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)


def parse_spec(text: str, noun: str) -> PartSpec:
    """``noun`` is used in error messages. Raises InvalidConfig for a word that is not ``key=value``, or a duplicate
    key."""
    first, *words = text.split() or [""]
    name, _, argument = first.partition(":")
    options: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (key and equals and value):
            raise InvalidConfig(f"{word!r} in {noun} {text!r} is not an option; write key=value, e.g. '{name} count=4'")
        if key in options:
            raise InvalidConfig(f"{noun} {text!r} gives {key} twice")
        options[key] = value
    return PartSpec(text, name, argument, options)


def typed_options(spec: PartSpec, kind: type, noun: str, but: Iterable[str] = ()) -> dict[str, Any]:
    """The options converted to the types of the init fields of the dataclass ``kind``, without the fields in ``but``.

    Raises InvalidConfig with the known options, or with the kind of value that an option takes.
    """
    hints = get_type_hints(kind)
    known = [f.name for f in dataclasses.fields(kind) if f.init and f.name not in but]
    for key in spec.options:
        if key not in known:
            takes = f"known: {', '.join(known)}" if known else "it takes none"
            raise InvalidConfig(f"{noun} {spec.name!r} has no option {key!r}; {takes}")
    return {key: _converted(key, value, hints[key], f"{noun} {spec.text!r}") for key, value in spec.options.items()}


def checked_values(given: Mapping[str, Any], defaults: Any, where: str) -> dict[str, Any]:
    """Values read from JSON, checked against the fields of the dataclass ``defaults``; an integer may stand for a
    float. Raises InvalidConfig with the known options, or with the kind of value that an option takes."""
    known = {f.name: getattr(defaults, f.name) for f in dataclasses.fields(defaults) if f.init}
    for key, value in given.items():
        if key not in known:
            raise InvalidConfig(f"{where} has no option {key!r}; known: {', '.join(known)}")
        expected = type(known[key])
        accepted = int | float if expected is float else expected
        if not isinstance(value, accepted) or isinstance(value, bool) != (expected is bool):
            raise InvalidConfig(f"{where}: option {key} takes {EXPECTED[expected].format(key=key)}, not {value!r}")
    return dict(given)


def _converted(key: str, value: str, hint: Any, where: str) -> Any:
    if get_origin(hint) is tuple:
        return tuple(_converted(key, part, get_args(hint)[0], where) for part in value.split(","))
    expected = hint if hint in EXPECTED else str
    try:
        if expected is bool:
            return {"true": True, "false": False}[value.lower()]
        return expected(value)
    except (ValueError, KeyError):
        message = f"{where}: option {key} takes {EXPECTED[expected].format(key=key)}, not {value!r}"
        raise InvalidConfig(message) from None
