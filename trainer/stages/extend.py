"""Stage ``extend``: a longer context by training on longer rows, and beyond that by YaRN."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from search_space.rope import Yarn
from trainer.data.token_dir import TokenDir
from trainer.engine.config import LoopConfig
from trainer.engine.model_dir import ModelDir
from trainer.pipeline.brief import Brief
from trainer.pipeline.fields import in_digest, source
from trainer.pipeline.stage import STAGES, StageContext
from trainer.stages.training import TrainingStage, train_on_stream


@STAGES.register("extend")
@dataclass(frozen=True)
class ExtendStage(TrainingStage):
    """``loop.length`` is the new context in training. ``yarn_factor`` over 1 stretches positions, so that
    ``original_length`` times it is the context that the model is made for; the loop then adapts it."""

    kind: ClassVar[str] = "extend"
    title: ClassVar[str] = "a longer context, by longer rows or YaRN"
    start: str = field(default="pretrain", metadata=source(ModelDir))
    data: str = field(default="data", metadata=source(TokenDir))
    loop: LoopConfig = field(default=LoopConfig(length=2048, kd_weight=0.0), kw_only=True)
    yarn_factor: float = 1.0
    original_length: int = 2048
    processes: int = field(default=1, metadata=in_digest("never"))

    def run(self, context: StageContext) -> dict[str, Any]:
        start, tokens = context.read(ModelDir, self.start), context.read(TokenDir, self.data)
        arch = start.arch()
        if self.yarn_factor > 1:
            arch = replace(arch, yarn=Yarn(self.yarn_factor, self.original_length))
        metrics = train_on_stream(context, self.loop, tokens, arch, self.processes, start=start)
        return {**metrics, "context": round(self.original_length * self.yarn_factor)}

    def shortened(self, brief: Brief) -> ExtendStage:
        stretched = self.yarn_factor > 1
        return replace(self, loop=self.loop.once((4 if stretched else 2) * brief.row), original_length=2 * brief.row)
