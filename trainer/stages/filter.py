"""Stage ``sft_data``: the filter chain over synthetic examples, with a report of what each filter dropped."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from foundation.errors import HilnasError
from foundation.files import write_atomically
from trainer.examples.decontamination import Decontamination
from trainer.examples.duplicates import Exact, NearDuplicates, SemanticDuplicates
from trainer.examples.files import ExamplesDir
from trainer.examples.filters import Each, Filter, Judged, malformed, refusal, run_filters, style
from trainer.examples.judges import TeacherJudge
from trainer.pipeline.brief import Brief
from trainer.pipeline.fields import source
from trainer.pipeline.stage import STAGES, Stage, StageContext, StageDir
from trainer.tasks.base import Example, Split
from trainer.tasks.registry import task_named
from trainer.teacher.directory import teacher_directory

REPORT = "report.json"
HELD_OUT: tuple[Split, ...] = ("validation", "test")


@STAGES.register("sft_data")
@dataclass(frozen=True)
class FilterStage(Stage):
    """``evaluation`` names the tasks whose validation and test prompts must not be trained on, ``evaluation_count``
    how many of each. ``least_likelihood`` is in nats per token of the teacher's."""

    kind: ClassVar[str] = "sft_data"
    title: ClassVar[str] = "the filter chain over synthetic examples"
    output: ClassVar[type[StageDir]] = ExamplesDir
    teacher: str
    teacher_identity: str
    evaluation: tuple[str, ...]
    evaluation_count: int = 100
    least_likelihood: float = -2.5
    near: float = 0.8
    meaning: float = 0.97
    source: str = field(default="synthetic", metadata=source(ExamplesDir))

    def __post_init__(self) -> None:
        for name in self.evaluation:
            task_named(name)

    def run(self, context: StageContext) -> dict[str, Any]:
        examples = context.read(ExamplesDir, self.source).read()
        kept, reports = run_filters(self.chain(context.cache), examples)
        if not kept:
            raise HilnasError(f"the filters left none of {len(examples)} examples; loosen one")
        ExamplesDir(context.folder).write(kept)
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

    def cost(self, costing: object) -> None:
        """A forward pass of the teacher over the examples."""

    def shortened(self, brief: Brief) -> FilterStage:
        return replace(self, evaluation_count=1)
