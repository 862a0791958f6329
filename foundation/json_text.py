"""JSON as the standard defines it: Python's reader also takes NaN, infinity and two values for one key."""

from __future__ import annotations

import json
import math
from typing import Any


def read_json(text: str | bytes) -> Any:
    """Raises ValueError with a sentence for what is not JSON, a number that is not finite, or a key that an object has
    twice."""
    try:
        return json.loads(text, parse_constant=_refused, parse_float=_finite, object_pairs_hook=_different)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refused(word: str) -> Any:
    raise ValueError(f"{word} is not a number in JSON; numbers are finite")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"the number {text[:20]} is too large; numbers are finite")
    return value


def _different(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"an object has the key {key[:80]!r} twice; which one counts is not defined")
        found[key] = value
    return found
