"""Reads rows that any version or agent may have stored: unreadable values are left out and named, never an error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from contracts.values import clean_json
from foundation.errors import InvalidConfig

Model = TypeVar("Model", bound=BaseModel)
ATTEMPTS = 4  # leaving one field out may reveal the next invalid one


def readable(cls: type[Model], stored: Mapping[str, Any], filler: Mapping[str, Any]) -> tuple[Model, list[str]]:
    """The record and the names of the fields left out; ``filler`` has values for required fields."""
    try:
        return cls.model_validate(stored), []
    except (ValidationError, InvalidConfig):
        data: dict[str, Any] = clean_json(dict(stored), depth=16)
    left_out: list[str] = []
    for _ in range(ATTEMPTS):
        try:
            return cls.model_validate(data), left_out
        except ValidationError as error:
            for one in error.errors():
                left_out += _leave_out(data, one["loc"], filler)
        except InvalidConfig:  # a metric of a plugin that is not loaded, say
            break
    return cls.model_validate(dict(filler)), ["everything"]


def _leave_out(data: dict[str, Any], where: Sequence[int | str], filler: Mapping[str, Any]) -> list[str]:
    """Leaves out one entry of a table (a single metric), else the entire field."""
    field = str(where[0]) if where else ""
    table = data.get(field)
    if len(where) > 1 and isinstance(table, dict) and where[1] in table:
        data[field] = {key: value for key, value in table.items() if key != where[1]}
        return [f"{field}.{where[1]}"]
    data.pop(field, None)
    if field in filler:
        data[field] = filler[field]
    return [field] if field else []


def finite(value: Any) -> float | None:
    """``value`` as a finite number, else None."""
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None


def unreadable(names: Sequence[str]) -> str:
    return f"stored values that cannot be read were left out: {', '.join(dict.fromkeys(names))}"[:1000]
