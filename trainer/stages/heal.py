"""Stage ``heal``: a winner with inherited weights learns from its parent as a whole, after its blocks learned alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch

from search_space import cost
from trainer.data.token_dir import TokenDir
from trainer.engine.evaluate import bits_per_byte
from trainer.engine.model_dir import ModelDir
from trainer.pipeline.brief import Brief
from trainer.pipeline.fields import in_digest, source
from trainer.pipeline.stage import STAGES, StageContext
from trainer.stages.training import TrainingStage, train_on_stream
from trainer.teacher.directory import teacher_directory
from trainer.teacher.model import load_teacher
from trainer.teacher.topk_cache import LogprobsDir


@STAGES.register("heal")
@dataclass(frozen=True)
class HealStage(TrainingStage):
    """``parent`` is read on the held-out text too, so that the healed model stands beside it."""

    kind: ClassVar[str] = "heal"
    title: ClassVar[str] = "distillation from the parent, from inherited weights"
    parent: str = field(metadata=in_digest("never"))
    parent_identity: str
    start: str = field(default="model", metadata=source(ModelDir))
    data: str = field(default="data", metadata=source(TokenDir))
    teacher: str = field(default="teacher", metadata=source(LogprobsDir))
    processes: int = field(default=1, metadata=in_digest("never"))
    eval_rows: int = 8

    def run(self, context: StageContext) -> dict[str, Any]:
        start, tokens = context.read(ModelDir, self.start), context.read(TokenDir, self.data)
        trained = train_on_stream(
            context, self.loop, tokens, start.arch(), self.processes, context.inputs[self.teacher], start=start
        )
        return {
            "held_out_bits_per_byte": self._compared(context, start, tokens), "params": cost.params(start.arch()),
            **trained,
        }  # fmt: skip

    def _compared(self, context: StageContext, start: ModelDir, tokens: TokenDir) -> dict[str, float]:
        held_out, num_bytes = tokens.packed("held_out", self.loop.length), tokens.vocabulary().num_bytes
        parent = load_teacher(teacher_directory(self.parent, context.cache), dtype=torch.float32)
        models = {"before": start.load(), "after": ModelDir(context.folder).load(), "parent": parent}
        return {
            name: round(bits_per_byte(model, held_out, num_bytes, self.eval_rows, batch=1), 4)
            for name, model in models.items()
        }

    def shortened(self, brief: Brief) -> HealStage:
        return replace(self, loop=self.loop.once(brief.row), eval_rows=1)
