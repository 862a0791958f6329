"""Stage ``extend``: a longer context by going on with longer rows, and beyond that by YaRN."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from search_space.rope import Yarn
from trainer.engine.config import LoopConfig
from trainer.engine.launch import MODEL
from trainer.pipeline.stage import Stage, StageContext
from trainer.stages.continuation import arch_of, check_model, continue_training


@dataclass(frozen=True)
class ExtendStage(Stage):
    """``loop.length`` is the new context in training. ``yarn_factor`` over 1 stretches positions, so that
    ``original_length`` times it is the context that the model is made for; the loop then adapts it."""

    kind: ClassVar[str] = "extend"
    start: str = "pretrain"
    data: str = "data"
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(length=2048, kd_weight=0.0))
    yarn_factor: float = 1.0
    original_length: int = 2048
    processes: int = 1

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.start, self.data)

    def run(self, context: StageContext) -> dict[str, Any]:
        start, data = context.inputs[self.start], context.inputs[self.data]
        arch = arch_of(start / MODEL)
        if self.yarn_factor > 1:
            arch = replace(arch, yarn=Yarn(self.yarn_factor, self.original_length))
        metrics = continue_training(context, start, data, self.loop, arch, processes=self.processes)
        return {**metrics, "context": round(self.original_length * self.yarn_factor)}

    def resolved(self) -> dict[str, Any]:
        return {key: value for key, value in super().resolved().items() if key != "processes"}

    def check(self, folder: Path) -> None:
        check_model(folder)
