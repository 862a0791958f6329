"""Stage ``synthetic``: examples from verifiers' templates and from the teacher, each checked by its own verifier."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from trainer.examples.files import ExamplesDir, read_examples, write_examples
from trainer.examples.teacher_writes import REQUESTS, replies
from trainer.pipeline.brief import Brief
from trainer.pipeline.costing import Cost, Costing
from trainer.pipeline.stage import STAGES, Stage, StageContext, StageDir
from trainer.tasks.base import Example
from trainer.tasks.registry import task_named
from trainer.teacher.directory import teacher_directory

TOKENS_WRITTEN = 300  # that a teacher reads and writes for one example


@STAGES.register("synthetic")
@dataclass(frozen=True)
class SyntheticStage(Stage):
    """``sources``: a task's name, or ``teacher:...``, and how many examples are asked of it."""

    kind: ClassVar[str] = "synthetic"
    title: ClassVar[str] = "examples from verifiers' templates and from the teacher"
    output: ClassVar[type[StageDir]] = ExamplesDir
    scratch: ClassVar[tuple[str, ...]] = ("parts",)
    teacher: str
    teacher_identity: str
    sources: tuple[tuple[str, int], ...]
    seed: int = 0

    def __post_init__(self) -> None:
        for source, _ in self.sources:
            REQUESTS.get_or_raise(source) if source.startswith("teacher:") else task_named(source)

    def run(self, context: StageContext) -> dict[str, Any]:
        parts = context.folder / "parts"
        parts.mkdir(exist_ok=True)
        kept: list[Example] = []
        found: dict[str, dict[str, int]] = {}
        for index, (source, count) in enumerate(self.sources):
            path = parts / f"{index:02d}.jsonl"
            context.progress(index / len(self.sources), f"{source}: {count} examples")
            if not path.exists():
                write_examples(path, self._verified(source, count, context))
            made = read_examples(path)
            found[source] = {"asked": count, "verified": len(made)}
            kept += made
        ExamplesDir(context.folder).write(kept)
        return {"examples": len(kept), "sources": found}

    def _verified(self, source: str, count: int, context: StageContext) -> list[Example]:
        if source.startswith("teacher:"):
            return self._from_teacher(source, count, context)
        task = task_named(source)
        made = getattr(task, "demonstrations", task.examples)("train", count)  # of every turn, where there are several
        return [example for example in made if task.score(example, example.answer) == 1.0]

    def _from_teacher(self, source: str, count: int, context: StageContext) -> list[Example]:
        requests = REQUESTS[source](count)
        folder = teacher_directory(self.teacher, context.cache)
        texts = replies(folder, [request.prompt for request in requests], self.seed)
        found = [request.example(text) for request, text in zip(requests, texts, strict=True)]
        return [example for example in found if example is not None]

    def cost(self, costing: Costing) -> Cost:
        written = sum(count for source, count in self.sources if source.startswith("teacher:"))
        examples = sum(count for _, count in self.sources)
        return {"examples": examples, **costing.asking_teacher(written * TOKENS_WRITTEN)}

    def shortened(self, brief: Brief) -> SyntheticStage:
        return replace(self, sources=tuple((source, min(count, 2)) for source, count in self.sources))
