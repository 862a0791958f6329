"""Source kind ``mixture``: several sources in given shares, as one. ``mixture:CHARACTERS SHARE=SOURCE ...``.

``datasets:NAME@CONFIG#COLUMN`` is streamed here until its share is there, however many rows that takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from foundation.errors import InvalidConfig
from trainer.data.sources import Source, open_source

TOLERANCE = 1e-6


@dataclass(frozen=True)
class Part:
    """``share`` of all characters. ``licence`` as the data card states it: not a legal review."""

    source: str
    share: float
    licence: str = ""


def mixture_of(parts: Iterable[Part], characters: float) -> str:
    """The source that a data stage is given. Raises InvalidConfig for shares that are not a whole."""
    listed = list(parts)
    total = sum(part.share for part in listed)
    if abs(total - 1) > TOLERANCE or min(part.share for part in listed) <= 0:
        raise InvalidConfig(f"the shares of a mixture must be positive and sum to 1, these to {total:.4g}")
    return f"mixture:{round(characters)} " + " ".join(f"{part.share:g}={part.source}" for part in listed)


def opened_mixture(spec: str, name: str, cache: Path) -> Source:
    characters, parts = _parsed(spec, name)
    opened = [_opened(part.source, cache) for part in parts]

    def documents() -> Iterator[str]:
        for part, source in zip(parts, opened, strict=True):
            yield from _until(source.documents(), part.share * characters)

    origins = "; ".join(f"{part.share:.0%} {source.origin}" for part, source in zip(parts, opened, strict=True))
    licences = "; ".join(dict.fromkeys(source.licence for source in opened))
    return Source(spec, origins, licences, documents)


def _parsed(spec: str, name: str) -> tuple[int, list[Part]]:
    try:
        characters, *words = name.split()
        pairs = [word.split("=", 1) for word in words]
        return int(characters), [Part(source, float(share)) for share, source in pairs]
    except ValueError:
        raise InvalidConfig(
            f"{spec!r} is not a mixture; write e.g. mixture:2000000 0.7=python:docs 0.3=debian:wordnet-base"
        ) from None


def _until(documents: Iterable[str], characters: float) -> Iterator[str]:
    """As much of a source as its share; all of it when it has less."""
    seen = 0
    for text in documents:
        if seen >= characters:
            return
        seen += len(text)
        yield text


def _opened(source: str, cache: Path) -> Source:
    kind, _, name = source.partition(":")
    return _streamed(source, name) if kind == "datasets" else open_source(source, cache)


def _streamed(source: str, name: str) -> Source:
    path, _, column = name.partition("#")
    dataset, _, config = path.partition("@")

    def documents() -> Iterator[str]:
        from datasets import load_dataset

        for row in load_dataset(dataset, config or None, split="train", streaming=True):
            yield str(row[column or "text"])

    return Source(source, f"Hugging Face dataset {path}", "see its data card", documents)

