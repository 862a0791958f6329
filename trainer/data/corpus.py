"""Documents to token streams: split into training and held-out text, deduplicated, mixed, with a data card."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from foundation.errors import InvalidConfig
from trainer.data.sources import MIN_CHARACTERS, Source
from trainer.data.vocabulary import Vocabulary

CARD = "DATA_CARD.md"
SPLITS = ("train", "held_out")


@dataclass
class SourceCount:
    """What one source gave."""

    origin: str
    licence: str
    documents: int = 0
    duplicates: int = 0
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))


def build_corpus(
    sources: Sequence[Source], tokenizer: Tokenizer, vocabulary: Vocabulary, max_tokens: int, held_out_share: float
) -> tuple[dict[str, NDArray[np.int32]], list[SourceCount]]:
    """Streams of teacher tokens by split, at most ``max_tokens`` in all, as much of every source as there is room for.

    A document's sha256 decides its split and its place in the mix, so that both are the same wherever they are made.
    """
    tokenizer.encode_special_tokens = True  # text that spells a special token stays text
    parts: dict[str, list[tuple[bytes, NDArray[np.int32]]]] = {split: [] for split in SPLITS}
    counts, seen = [], set[bytes]()
    for source in sources:
        count = SourceCount(source.origin, source.licence)
        for key, text in _keyed(source, count, seen):
            if sum(count.tokens.values()) >= max_tokens // len(sources):
                break
            split = _split_of(key, held_out_share)
            tokens = np.array([*tokenizer.encode(text).ids, vocabulary.teacher_end], np.int32)
            parts[split].append((key, tokens))
            count.documents += 1
            count.tokens[split] += len(tokens)
        counts.append(count)
    for split, rows in parts.items():
        if not rows:
            raise InvalidConfig(f"the sources left no {split} text; give more text, or another held_out_share")
    mixed = {split: sorted(rows, key=lambda row: row[0][4:]) for split, rows in parts.items()}
    return {split: np.concatenate([tokens for _, tokens in rows]) for split, rows in mixed.items()}, counts


def training_documents(sources: Sequence[Source], held_out_share: float) -> Iterator[str]:
    """Those that ``build_corpus`` does not hold out: what a tokenizer may be learned from."""
    seen = set[bytes]()
    for source in sources:
        for key, text in _keyed(source, SourceCount(source.origin, source.licence), seen):
            if _split_of(key, held_out_share) == "train":
                yield text


def _split_of(key: bytes, held_out_share: float) -> str:
    return "held_out" if int.from_bytes(key[:4], "big") < held_out_share * 2**32 else "train"


def _keyed(source: Source, count: SourceCount, seen: set[bytes]) -> Iterator[tuple[bytes, str]]:
    """Each document once, in the order of the last bytes of its sha256: a fair sample when there is no room for all."""
    texts: dict[bytes, str] = {}
    for text in source.documents():
        if len(text) < MIN_CHARACTERS:
            continue
        key = hashlib.sha256(text.encode(errors="ignore")).digest()
        if key in seen:
            count.duplicates += 1
        else:
            seen.add(key)
            texts[key] = text
    yield from sorted(texts.items(), key=lambda item: item[0][::-1])


def write_card(folder: Path, counts: Sequence[SourceCount], facts: dict[str, Any]) -> None:
    """``facts`` become lines under the table of sources."""
    columns = ("source", "licence", "documents", "exact duplicates", "training tokens", "held-out tokens")
    table = [columns, ("---",) * len(columns)]
    table += [(c.origin, c.licence, str(c.documents), str(c.duplicates), *map(str, c.tokens.values())) for c in counts]
    head = ["# Data card", "", "Tokens are the teacher's. Licences are those that the packages state.", ""]
    lines = [*head, *(f"| {' | '.join(row)} |" for row in table), "", *(f"- {k}: {v}" for k, v in facts.items()), ""]
    (folder / CARD).write_text("\n".join(lines))
