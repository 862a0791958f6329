"""Stage ``synthetic``: examples from verifiers' templates and from the teacher, each checked by its own verifier."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from foundation.errors import HilnasError, InvalidConfig
from trainer.examples.files import EXAMPLES, read_examples, write_examples
from trainer.pipeline.stage import Stage, StageContext
from trainer.tasks.base import Example
from trainer.tasks.registry import task_named
from trainer.teacher.model import teacher_directory


@dataclass(frozen=True)
class SyntheticStage(Stage):
    """``sources``: a task's name, or ``teacher:...``, and how many examples are asked of it."""

    kind: ClassVar[str] = "synthetic"
    scratch: ClassVar[tuple[str, ...]] = ("parts",)
    teacher: str
    teacher_identity: str
    sources: tuple[tuple[str, int], ...]
    seed: int = 0

    def run(self, context: StageContext) -> dict[str, Any]:
        parts = context.folder / "parts"
        parts.mkdir(exist_ok=True)
        kept: list[Example] = []
        told: dict[str, dict[str, int]] = {}
        for index, (source, count) in enumerate(self.sources):
            path = parts / f"{index:02d}.jsonl"
            context.progress(index / len(self.sources), f"{source}: {count} examples")
            if not path.exists():
                write_examples(path, self._verified(source, count, context))
            made = read_examples(path)
            told[source] = {"asked": count, "verified": len(made)}
            kept += made
        write_examples(context.folder / EXAMPLES, kept)
        return {"examples": len(kept), "sources": told}

    def _verified(self, source: str, count: int, context: StageContext) -> list[Example]:
        if source.startswith("teacher:"):
            return self._from_teacher(source, count, context)
        task = task_named(source)
        made = getattr(task, "demonstrations", task.examples)("train", count)  # of every turn, where there are several
        return [example for example in made if task.score(example, example.answer) == 1.0]

    def _from_teacher(self, source: str, count: int, context: StageContext) -> list[Example]:
        from trainer.examples.teacher_writes import REQUESTS, replies

        if source not in REQUESTS:
            raise InvalidConfig(f"unknown source {source!r}; a teacher writes {', '.join(REQUESTS)}")
        requests = REQUESTS[source](count)
        folder = teacher_directory(self.teacher, context.cache)
        texts = replies(folder, [request.prompt for request in requests], self.seed)
        found = [request.example(text) for request, text in zip(requests, texts, strict=True)]
        return [example for example in found if example is not None]

    def check(self, folder: Path) -> None:
        if not (folder / EXAMPLES).exists():
            raise HilnasError(f"{folder / EXAMPLES} is gone")
