"""Stage ``preference``: a model learns to prefer what a jury chose over what it rejected."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from foundation.errors import HilnasError
from trainer.data.token_dir import TokenDir
from trainer.engine.config import LoopConfig
from trainer.engine.model_dir import ModelDir, on_device
from trainer.losses.preference import PREFERENCE_LOSSES
from trainer.pipeline.brief import Brief
from trainer.pipeline.fields import source
from trainer.pipeline.stage import STAGES, StageContext
from trainer.preference.pairs import PairsDir
from trainer.preference.train import REFERENCE, train_on_pairs
from trainer.stages.training import TrainingStage

ENDS = 5  # steps at each end of the curve that the metrics average


@STAGES.register("preference")
@dataclass(frozen=True)
class PreferenceStage(TrainingStage):
    """``loss`` names one of trainer/preference/losses; beta 5 is LFM2's. ``loop.length`` bounds prompt and answer:
    longer pairs are left out and counted."""

    kind: ClassVar[str] = "preference"
    title: ClassVar[str] = "learning from preference pairs"
    scratch: ClassVar[tuple[str, ...]] = (REFERENCE,)
    start: str = field(metadata=source(ModelDir))
    pairs: str = field(default="preference_data", metadata=source(PairsDir))
    loss: str = "joint"
    beta: float = 5.0
    loop: LoopConfig = field(
        default=LoopConfig(kd_weight=0.0, learning_rate=8e-7, schedule="cosine"), kw_only=True
    )
    data: str = field(default="data", metadata=source(TokenDir))

    def __post_init__(self) -> None:
        PREFERENCE_LOSSES.get_or_raise(self.loss)

    def run(self, context: StageContext) -> dict[str, Any]:
        found = context.read(PairsDir, self.pairs).read()
        fitting = [p for p in found if len(p.prompt) + max(len(p.chosen), len(p.rejected)) <= self.loop.length]
        if not fitting:
            raise HilnasError(
                f"none of {len(found)} pairs fits {self.loop.length} tokens; give the loop a greater length"
            )
        model = on_device(context.read(ModelDir, self.start).load())
        loss = PREFERENCE_LOSSES[self.loss]
        train_on_pairs(model, fitting, loss, self.beta, self.loop, context.folder, context.progress)
        ModelDir(context.folder).save(model, context.read(TokenDir, self.data))
        rows = context.curve.read()
        mean = lambda key, part: round(sum(row[key] for row in part) / len(part), 5)  # noqa: E731
        return {
            "pairs": len(fitting), "left_out": len(found) - len(fitting), "tokens": sum(row["tokens"] for row in rows),
            "first_loss": mean("loss", rows[:ENDS]), "last_loss": mean("loss", rows[-ENDS:]),
            "last_accuracy": mean("accuracy", rows[-ENDS:]), "chosen_log_ratio": mean("chosen", rows[-ENDS:]),
            "rejected_log_ratio": mean("rejected", rows[-ENDS:]),
        }  # fmt: skip

    def shortened(self, brief: Brief) -> PreferenceStage:
        return replace(self, loop=self.loop.once(brief.examples_row))
