"""Stage ``sft``: supervised fine-tuning on the answers of examples, all of them or a specialist's, in the order of a
curriculum where there is one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from trainer.data.token_dir import TokenDir
from trainer.engine.config import LoopConfig
from trainer.engine.model_dir import ModelDir
from trainer.examples.files import ExamplesDir
from trainer.examples.stream import STREAM, ExampleRows
from trainer.pipeline.brief import Brief
from trainer.pipeline.fields import in_digest, source
from trainer.pipeline.stage import STAGES, StageContext
from trainer.stages.curriculum import EaseDir
from trainer.stages.rl import RlDir
from trainer.stages.training import TrainingStage, train_on_stream


@STAGES.register("sft")
@dataclass(frozen=True)
class SftStage(TrainingStage):
    """``tasks`` are the beginnings of the tasks' names that it trains on, all without. ``first_share`` of the examples,
    the easiest by ``curriculum``, come first. Labels are answers and the text that fills rows. ``cold_start`` names a
    stage of reinforcement learning: the tasks that never rose there are the ones trained on, and where all rose the
    model stays as it is."""

    kind: ClassVar[str] = "sft"
    title: ClassVar[str] = "supervised fine-tuning on examples"
    scratch: ClassVar[tuple[str, ...]] = (STREAM, "stream.learned")
    start: str = field(default="extend", metadata=source(ModelDir))
    tasks: tuple[str, ...] = ()
    first_share: float = 0.4
    loop: LoopConfig = field(default=LoopConfig(kd_weight=0.0, in_order=True), kw_only=True)
    examples: str = field(default="sft_data", metadata=source(ExamplesDir))
    data: str = field(default="data", metadata=source(TokenDir))
    curriculum: str | None = field(default=None, metadata=source(EaseDir))
    cold_start: str | None = field(default=None, metadata=source(RlDir, "unless_default"))
    processes: int = field(default=1, metadata=in_digest("never"))

    def run(self, context: StageContext) -> dict[str, Any]:
        start, tokens, chosen = context.read(ModelDir, self.start), context.read(TokenDir, self.data), self.tasks
        if self.cold_start:
            chosen = context.read(RlDir, self.cold_start).unsolved()
            if not chosen:
                start.copy_to(context.folder)
                return {"tasks": [], "examples": 0, "tokens": 0}
        ease = context.read(EaseDir, self.curriculum).read() if self.curriculum else None
        rows = ExampleRows(context.read(ExamplesDir, self.examples).read(), chosen, ease, self.first_share)
        stream = context.folder / STREAM
        num_rows = self.loop.steps * self.loop.batch
        shares = rows.write(stream, tokens, num_rows, self.loop.length, self.loop.seed)
        trained = train_on_stream(
            context, self.loop, tokens, start.arch(), self.processes, start=start, stream=stream
        )
        return {**trained, **shares}

    def shortened(self, brief: Brief) -> SftStage:
        return replace(self, loop=self.loop.once(brief.examples_row))
