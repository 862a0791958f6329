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

WANTED = {int: "a whole number, e.g. {key}=16", float: "a number, e.g. {key}=0.5", bool: "true or false", str: "text"}


@dataclass(frozen=True)
class PartSpec:
    """A part as text names it; ``options`` are not converted yet."""

    text: str
    name: str
    argument: str = ""
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)


def parse_spec(text: str, noun: str) -> PartSpec:
    """``noun`` is for sentences. Raises InvalidConfig for a word that is not ``key=value``, or a key given twice."""
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
    """The options as the types of the init fields of the dataclass ``kind``, without the fields in ``but``.

    Raises InvalidConfig with the known options, or with the value that an option takes.
    """
    hints = get_type_hints(kind)
    known = [f.name for f in dataclasses.fields(kind) if f.init and f.name not in but]
    for key in spec.options:
        if key not in known:
            takes = f"known: {', '.join(known)}" if known else "it takes none"
            raise InvalidConfig(f"{noun} {spec.name!r} has no option {key!r}; {takes}")
    return {key: _converted(key, value, hints[key], f"{noun} {spec.text!r}") for key, value in spec.options.items()}


def checked_values(given: Mapping[str, Any], defaults: Any, where: str) -> dict[str, Any]:
    """Values that came as JSON, checked against the fields of the dataclass ``defaults``; whole numbers pass where a
    number is wanted. Raises InvalidConfig with the known options, or with the value that an option takes."""
    known = {f.name: getattr(defaults, f.name) for f in dataclasses.fields(defaults) if f.init}
    for key, value in given.items():
        if key not in known:
            raise InvalidConfig(f"{where} has no option {key!r}; known: {', '.join(known)}")
        wanted = type(known[key])
        kinds = int | float if wanted is float else wanted
        if not isinstance(value, kinds) or isinstance(value, bool) != (wanted is bool):
            raise InvalidConfig(f"{where}: option {key} takes {WANTED[wanted].format(key=key)}, not {value!r}")
    return dict(given)


def _converted(key: str, value: str, hint: Any, where: str) -> Any:
    if get_origin(hint) is tuple:
        return tuple(_converted(key, part, get_args(hint)[0], where) for part in value.split(","))
    wanted = hint if hint in WANTED else str
    try:
        if wanted is bool:
            return {"true": True, "false": False}[value.lower()]
        return wanted(value)
    except (ValueError, KeyError):
        raise InvalidConfig(f"{where}: option {key} takes {WANTED[wanted].format(key=key)}, not {value!r}") from None
