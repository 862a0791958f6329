"""Metadata of a stage's fields: which name earlier stages, and which are part of the digest that names its folder."""

from __future__ import annotations

from dataclasses import Field
from typing import Any, Literal

Digest = Literal["always", "never", "unless_default"]


def source(kind: type, digest: Digest = "always") -> dict[str, Any]:
    """Of a field with the name of an earlier stage that leaves a ``kind`` (a StageDir), with several in a tuple, or
    with None. ``digest`` says whether the name counts too: what the stage holds counts in any case."""
    return {"source": kind, "digest": digest}


def in_digest(when: Digest) -> dict[str, Any]:
    """Of a field that is not always part of the digest. ``never``: it cannot change the numbers. ``unless_default``:
    it came later than folders that exist, which stay valid."""
    return {"digest": when}


def source_kind(one: Field[Any]) -> Any:
    return one.metadata.get("source")


def is_digested(one: Field[Any], value: Any) -> bool:
    digest = one.metadata.get("digest", "always")
    return digest == "always" or (digest == "unless_default" and value != one.default)
