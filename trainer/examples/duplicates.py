"""Duplicates: the same text, nearly the same words (MinHash), nearly the same meaning (embeddings)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray

from trainer.tasks.base import Example


def normal(text: str) -> str:
    return " ".join(text.lower().split())


@dataclass(frozen=True)
class Exact:
    name: str = "exact duplicates"

    def reasons(self, examples: Sequence[Example]) -> list[str | None]:
        seen: set[tuple[str, str]] = set()
        found: list[str | None] = []
        for example in examples:
            key = (normal(example.system + example.prompt), normal(example.answer))
            found.append("seen before" if key in seen else None)
            seen.add(key)
        return found


@dataclass(frozen=True)
class NearDuplicates:
    """Jaccard similarity of word triples over ``threshold``, estimated by MinHash. Templates share their words by
    design and are compared exactly only."""

    threshold: float = 0.8
    permutations: int = 128
    name: str = "near duplicates"

    def reasons(self, examples: Sequence[Example]) -> list[str | None]:
        index = MinHashLSH(threshold=self.threshold, num_perm=self.permutations)
        found: list[str | None] = []
        for i, example in enumerate(examples):
            sketch = self._sketch(f"{example.prompt} {example.answer}") if example.source == "teacher" else None
            near = sketch is not None and bool(index.query(sketch))
            found.append("nearly the words of an earlier one" if near else None)
            if sketch is not None and not near:
                index.insert(i, sketch)
        return found

    def _sketch(self, text: str) -> MinHash:
        words = normal(text).split()
        sketch = MinHash(num_perm=self.permutations, seed=1)
        for at in range(max(1, len(words) - 2)):
            sketch.update(" ".join(words[at : at + 3]).encode())
        return sketch


@dataclass(frozen=True)
class SemanticDuplicates:
    """Cosine similarity of embeddings over ``threshold``. ``embed``: texts -> unit vectors [N, D]."""

    embed: Callable[[Sequence[str]], NDArray[np.float32]]
    threshold: float = 0.97
    name: str = "semantic duplicates"

    def reasons(self, examples: Sequence[Example]) -> list[str | None]:
        chosen = [i for i, example in enumerate(examples) if example.source == "teacher"]
        gone: set[int] = set()
        if chosen:
            vectors = self.embed([f"{examples[i].prompt} {examples[i].answer}" for i in chosen])
            gone = {chosen[row] for row in _near_earlier(vectors @ vectors.T, self.threshold)}
        return ["nearly the meaning of an earlier one" if i in gone else None for i in range(len(examples))]


def _near_earlier(similarity_NN: NDArray[np.float32], threshold: float) -> set[int]:
    """Rows that are like an earlier row which stays."""
    gone: set[int] = set()
    for row in range(len(similarity_NN)):
        if any(similarity_NN[row, other] > threshold for other in range(row) if other not in gone):
            gone.add(row)
    return gone
