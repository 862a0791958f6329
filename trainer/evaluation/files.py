"""What an evaluation leaves in its stage's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from trainer.pipeline.records import Records
from trainer.pipeline.stage import StageDir

KIND, PREFIX = "evaluate", "evaluate_"  # of the stage, and of its name before what it evaluates
EVALUATION, FINISHED = "evaluation.json", "finished.jsonl"


@dataclass(frozen=True)
class EvaluationDir(StageDir):
    what: ClassVar[str] = "an evaluation"
    required: ClassVar[tuple[str, ...]] = (EVALUATION,)


def rows_of(folder: Path) -> dict[str, dict[str, list[float]]]:
    """Metric -> its rows and weights, for comparing two models row by row."""
    return {name: rows for line in Records(folder / FINISHED).read() for name, rows in line.get("rows", {}).items()}
