"""Pairs of a chosen and a rejected candidate, and why a question gives none."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from foundation.files import write_atomically
from trainer.pipeline.stage import StageDir
from trainer.preference.candidates import Candidate, Question
from trainer.preference.jury import Verdict

PAIRS = "pairs.jsonl"
NEAR = 1e-9


@dataclass(frozen=True)
class Pair:
    """Token ids: ``chosen`` is the jury's best, ``rejected`` its worst."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    task: str = "text"
    chosen_origin: str = ""
    rejected_origin: str = ""
    margin: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class PairsDir(StageDir):
    what: ClassVar[str] = "preference pairs"
    required: ClassVar[tuple[str, ...]] = (PAIRS,)

    def read(self) -> list[Pair]:
        return [Pair(**json.loads(line)) for line in (self.folder / PAIRS).read_text().splitlines()]

    def write(self, pairs: Iterable[dict[str, Any]]) -> None:
        """Pairs as ``Pair.to_dict`` has them."""
        write_atomically(self.folder / PAIRS, "".join(json.dumps(pair) + "\n" for pair in pairs))


def pair_of(
    question: Question, candidates: Sequence[Candidate], verdict: Verdict, least_margin: float
) -> tuple[Pair | None, str]:
    """Best against worst with what became of the question. Of equal scores the student's own candidate counts as
    better where the best is sought, and as worse where the worst is: both sides are then what it says itself."""
    judged = [
        (total, candidate) for total, candidate in zip(verdict.totals, candidates, strict=True) if total is not None
    ]
    if len(judged) < 2:
        return None, "not judged"
    high, low = max(total for total, _ in judged), min(total for total, _ in judged)
    if high - low < least_margin:
        return None, "all alike"
    best = _own_first(candidate for total, candidate in judged if total > high - NEAR)
    worst = _own_first(candidate for total, candidate in judged if total < low + NEAR)
    if not worst.on_policy:
        return None, "the worst is not the student's"
    task = question.example.task if question.example else "text"
    pair = Pair(question.ids, best.ids, worst.ids, task, best.origin, worst.origin, round(high - low, 4))
    return pair, "paired"


def _own_first(candidates: Iterable[Candidate]) -> Candidate:
    return max(candidates, key=lambda candidate: candidate.on_policy)


def counted(reasons: Iterable[str]) -> dict[str, int]:
    return dict(Counter(reasons).most_common())
