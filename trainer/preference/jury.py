"""A jury: named axes that score candidates from 0 to 1 or abstain, and their weighted mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NewType, Protocol

from foundation.errors import HilnasError, InvalidConfig
from trainer.preference.candidates import Candidate, Question

Scores = list[float | None]
TeacherFolder = NewType("TeacherFolder", Path)  # a field of this type is given the teacher's directory


class JuryFailed(HilnasError):
    code = "jury_failed"


class Axis(Protocol):
    """One thing that an answer is judged by. ``scores`` are from 0 to 1 in the candidates' order; None abstains."""

    @property
    def name(self) -> str: ...

    def scores(self, question: Question, candidates: Sequence[Candidate]) -> Scores: ...


@dataclass(frozen=True)
class Verdict:
    """``totals`` in the candidates' order, None where every axis abstained; ``axes`` name -> scores."""

    totals: Scores
    axes: dict[str, Scores]

    @property
    def abstained(self) -> Counter[str]:
        return Counter({name: sum(score is None for score in scores) for name, scores in self.axes.items()})


@dataclass(frozen=True)
class Jury:
    members: tuple[tuple[Axis, float], ...]

    def __post_init__(self) -> None:
        self.check_weights([weight for _, weight in self.members])

    @staticmethod
    def check_weights(weights: Sequence[float]) -> None:
        if not weights or not all(weight > 0 for weight in weights):
            raise InvalidConfig("a jury needs an axis or more, each with a weight over 0, e.g. 'correct weight=2'")

    def verdict(self, question: Question, candidates: Sequence[Candidate]) -> Verdict:
        """Raises JuryFailed for an axis whose scores are no shares, which is a fault of the axis."""
        axes = {axis.name: axis.scores(question, candidates) for axis, _ in self.members}
        for name, scores in axes.items():
            wrong = [score for score in scores if score is not None and not 0 <= score <= 1]
            if wrong or len(scores) != len(candidates):
                given = f"the score {wrong[0]}" if wrong else f"{len(scores)} scores"
                raise JuryFailed(
                    f"axis {name} gave {given} to {len(candidates)} candidates; scores are 0 to 1, one each"
                )
        return Verdict([self._total([axes[a.name][i] for a, _ in self.members]) for i in range(len(candidates))], axes)

    def _total(self, scores: Sequence[float | None]) -> float | None:
        """Mean over the axes that spoke."""
        spoken = [(score, weight) for score, (_, weight) in zip(scores, self.members, strict=True) if score is not None]
        return sum(score * weight for score, weight in spoken) / sum(w for _, w in spoken) if spoken else None
