"""What the stages share that train on a stream of tokens."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from search_space.arch import ArchConfig
from trainer.data.token_dir import TokenDir
from trainer.engine.config import LoopConfig
from trainer.engine.launch import Job, launch
from trainer.engine.model_dir import ModelDir
from trainer.pipeline.costing import Cost, Costing
from trainer.pipeline.stage import Stage, StageContext

T = TypeVar("T", bound="TrainingStage")


@dataclass(frozen=True)
class TrainingStage(Stage):
    """A stage with a loop that leaves a model."""

    output: ClassVar[type[ModelDir]] = ModelDir
    loop: LoopConfig = field(default=LoopConfig(), kw_only=True)

    def cost(self, costing: Costing) -> Cost:
        return costing.training(self.loop.steps, self.loop.batch, self.loop.length, self.loop.micro_batch)

    def seeded(self: T, seed: int) -> T:
        return replace(self, loop=replace(self.loop, seed=seed))


def train_on_stream(
    context: StageContext, loop: LoopConfig, tokens: TokenDir, arch: ArchConfig, processes: int = 1,
    teacher: Path | None = None, start: ModelDir | None = None, stream: Path | None = None, rounding: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Trains ``start``'s weights, else random ones, in ``arch``, and leaves ``model`` with its tokenizer.

    ``stream`` is read instead of the training text; ``teacher`` is a folder of log-probabilities about that text.
    """
    job = Job(
        arch.to_dict(), asdict(loop), str(tokens.folder), str(teacher) if teacher else None, str(context.folder),
        str(start.path) if start else None, str(stream) if stream else None, rounding,
    )  # fmt: skip
    launch(job, processes, context.progress, context.launcher)
    tokens.copy_tokenizer(ModelDir(context.folder).path)
    rows = context.curve.read()
    return {
        "tokens": loop.steps * loop.batch * loop.length, "first_loss": rows[0]["loss"], "last_loss": rows[-1]["loss"],
        "tokens_per_s": sorted(row["tokens_per_s"] for row in rows)[len(rows) // 2],
    }  # fmt: skip
