"""Stage ``sft_data``: the filter chain over synthetic examples, with a report of what each filter dropped."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from foundation.errors import HilnasError
from foundation.files import write_atomically
from trainer.examples.decontamination import Decontamination
from trainer.examples.duplicates import Exact, NearDuplicates, SemanticDuplicates
from trainer.examples.files import EXAMPLES, read_examples, write_examples
from trainer.examples.filters import Each, Filter, Judged, malformed, refusal, run_filters, style
from trainer.examples.judges import TeacherJudge
from trainer.pipeline.stage import Stage, StageContext
from trainer.tasks.base import Example, Split
from trainer.tasks.registry import task_named
from trainer.teacher.model import teacher_directory

REPORT = "report.json"
HELD_OUT: tuple[Split, ...] = ("validation", "test")


@dataclass(frozen=True)
class FilterStage(Stage):
    """``evaluation`` names the tasks whose validation and test prompts must not be trained on, ``evaluation_count``
    how many of each. ``least_likelihood`` is in nats per token of the teacher's."""

    kind: ClassVar[str] = "sft_data"
    teacher: str
    teacher_identity: str
    evaluation: tuple[str, ...]
    evaluation_count: int = 100
    least_likelihood: float = -2.5
    near: float = 0.8
    meaning: float = 0.97
    source: str = "synthetic"

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.source,)

    def run(self, context: StageContext) -> dict[str, Any]:
        examples = read_examples(context.inputs[self.source] / EXAMPLES)
        kept, reports = run_filters(self.chain(context.cache), examples)
        if not kept:
            raise HilnasError(f"the filters left none of {len(examples)} examples; loosen one")
        write_examples(context.folder / EXAMPLES, kept)
        write_atomically(context.folder / REPORT, json.dumps([report.to_dict() for report in reports], indent=1))
        return {
            "seen": len(examples), "kept": len(kept), "dropped": {report.filter: report.dropped for report in reports}
        }  # fmt: skip

    def chain(self, cache: Path) -> list[Filter]:
        judge = TeacherJudge(teacher_directory(self.teacher, cache))
        return [
            Each("malformed", malformed), Each("refusals", refusal), Each("style", style),
            Judged(judge, self.least_likelihood), Exact(), NearDuplicates(self.near),
            SemanticDuplicates(judge.embed, self.meaning), Decontamination(self._evaluation_examples()),
        ]  # fmt: skip

    def _evaluation_examples(self) -> list[Example]:
        tasks = [task_named(name) for name in self.evaluation]
        return [e for task in tasks for split in HELD_OUT for e in task.examples(split, self.evaluation_count)]

    def check(self, folder: Path) -> None:
        if not (folder / EXAMPLES).exists():
            raise HilnasError(f"{folder / EXAMPLES} is gone")
