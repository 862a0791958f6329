"""Types for untrusted values: digests, file names, ids, text and free JSON. Once checked or cleaned here, a value can
be stored in every database, sent as JSON and used in a path."""

from __future__ import annotations

import json
import math
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, FiniteFloat

from foundation.errors import InvalidConfig

DIGEST = re.compile(r"[0-9a-f]{64}")
MAX_INTEGER = 2**31 - 1  # what an integer column of every database holds
MAX_VALUE = 1e15  # above every byte count and time that a device can have
MAX_DEPTH = 12
MAX_JSON_BYTES = 256_000
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # NUL (PostgreSQL refuses it) and halves of surrogate pairs


def require_digest(digest: str) -> str:
    """Raises InvalidConfig unless ``digest`` is 64 lower-case hex digits; call it before using one in a path."""
    if not DIGEST.fullmatch(digest):
        raise InvalidConfig(f"a block is named by its sha256 in 64 lower-case hex digits, got {digest[:80]!r}")
    return digest


def clean_text(text: str, limit: int | None = None) -> str:
    """``text`` without characters that a database or JSON refuses, cut to ``limit`` characters."""
    cleaned = _UNSTORABLE.sub(REPLACEMENT, text)
    return cleaned if limit is None or len(cleaned) <= limit else cleaned[: limit - 1] + "…"


def clean_json(value: Any, depth: int = MAX_DEPTH) -> Any:
    """``value`` as JSON that every database can store: text cleaned, non-finite numbers None, anything nested deeper
    than ``depth`` replaced by a note, anything that is not JSON by its text."""
    if isinstance(value, str):
        return clean_text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else str(value)[:80] if abs(value) < 10**80 else "a huge integer"
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth <= 0:
        return "nested too deeply"
    if isinstance(value, dict):
        return {clean_text(str(key), 200): clean_json(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean_json(item, depth - 1) for item in value]
    return clean_text(str(value), 200)


def bounded_json(value: Any) -> Any:
    """``clean_json``; an object that is too large is replaced by a note."""
    if not isinstance(value, dict):
        return value
    cleaned = clean_json(value)
    size = len(json.dumps(cleaned))
    return cleaned if size <= MAX_JSON_BYTES else {"note": f"left out: {size} bytes, at most {MAX_JSON_BYTES} are kept"}


def whole_json(value: Any) -> Any:
    """``clean_json``; raises ValueError for an object that is too large to be kept as it is."""
    if not isinstance(value, dict):
        return value
    cleaned = clean_json(value)
    if (size := len(json.dumps(cleaned))) > MAX_JSON_BYTES:
        raise ValueError(f"an object here has at most {MAX_JSON_BYTES} bytes of JSON, this one has {size}")
    return cleaned


def _require_plausible(value: float) -> float:
    if not 0 <= value <= MAX_VALUE:
        raise ValueError(f"no device measures {value:g}: values lie between 0 and {MAX_VALUE:g}")
    return value


Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$")]  # no separator, no leading dot
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,79}$")]  # may become a file name
Name = Annotated[str, BeforeValidator(lambda text: clean_text(text) if isinstance(text, str) else text),
                 Field(min_length=1, max_length=120)]  # fmt: skip
Sentence = Annotated[str, BeforeValidator(lambda text: clean_text(text, 2000) if isinstance(text, str) else text)]
FreeJson = Annotated[dict[str, Any], BeforeValidator(bounded_json)]
Plausible = Annotated[FiniteFloat, AfterValidator(_require_plausible)]
Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
