"""Dataclasses built from plain data: every field is known, none is missing, and each scalar is of its declared type.

Python converts freely where data must not: ``bool("false")`` is true, ``1`` equals ``True`` and NaN passes every
comparison that it should fail.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, TypeVar

from foundation.errors import InvalidConfig

T = TypeVar("T")
MAX_WHOLE, MAX_NUMBER = 2**31 - 1, 1e12
MAX_QUOTED = 80  # characters of a value in a message
EXPECTED = {
    "int": f"a whole number within ±{MAX_WHOLE}",
    "float": f"a finite number within ±{MAX_NUMBER:g}",
    "bool": "true or false",
    "str": "text",
    "None": "null",
}


def build(kind: type[T], owner: str, data: Any, noun: str = "field") -> T:
    """``kind(**data)``. Raises InvalidConfig for data that is no object, an unknown or a missing field, or a scalar of
    another type than its field's."""
    known = [field for field in fields(kind) if field.init]  # type: ignore[arg-type]
    names = ", ".join(field.name for field in known) or "none"
    if not isinstance(data, Mapping):
        raise InvalidConfig(f"{owner}: expected an object with {names}, got {quoted(data)}")
    for name in sorted(map(str, set(data) - {field.name for field in known})):
        raise InvalidConfig(f"{owner}: unknown {noun} {name!r}; known {noun}s: {names}")
    for field in known:
        if field.name not in data and _is_required(field):
            raise InvalidConfig(f"{owner}: {noun} {field.name!r} is missing; {noun}s: {names}")
    made = kind(**data)
    check_types(owner, made)
    return made


def check_types(owner: str, record: Any) -> None:
    """Checks the scalar fields of a dataclass by their annotations (``int``, ``float``, ``bool``, ``str``, with ``|``);
    a whole number given for a float becomes one. Raises InvalidConfig naming the first field that is wrong."""
    for field in fields(record):
        accepted = _accepted(field)
        value = getattr(record, field.name)
        if not accepted or any(_fits(value, one) for one in accepted):
            continue
        if "float" in accepted and _fits(value, "int") and abs(value) <= MAX_NUMBER:
            object.__setattr__(record, field.name, float(value))
            continue
        expected = " or ".join(EXPECTED[one] for one in accepted)
        raise InvalidConfig(f"{owner}: {field.name} must be {expected}, got {quoted(value)}")


def quoted(value: Any) -> str:
    """As a message shows a value."""
    text = repr(value)
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…"


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _accepted(field: Field[Any]) -> tuple[str, ...]:
    """The scalar types of its annotation; none where it names any other type."""
    declared = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", str(field.type))
    names = tuple(part.strip() for part in declared.split("|"))
    return names if all(name in EXPECTED for name in names) else ()


def _fits(value: Any, name: str) -> bool:
    if name == "None":
        return value is None
    if isinstance(value, bool) or name == "bool":
        return isinstance(value, bool) and name == "bool"
    if name == "int":
        return isinstance(value, int) and abs(value) <= MAX_WHOLE
    if name == "float":
        return isinstance(value, float) and math.isfinite(value) and abs(value) <= MAX_NUMBER
    return isinstance(value, str)
