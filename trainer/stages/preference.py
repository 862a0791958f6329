"""Stage ``preference``: a model learns to prefer what a jury chose over what it rejected."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from foundation.errors import HilnasError
from trainer.engine.config import LoopConfig
from trainer.engine.launch import MODEL, whole_model
from trainer.examples.success import on_device
from trainer.losses.preference import loss_named
from trainer.pipeline.records import Records
from trainer.pipeline.stage import Stage, StageContext
from trainer.preference.train import REFERENCE, train_on_pairs
from trainer.stages.continuation import check_model, with_tokenizer
from trainer.stages.pairs import PAIRS, read_pairs

ENDS = 5  # steps at each end of the curve that are told


@dataclass(frozen=True)
class PreferenceStage(Stage):
    """``loss`` names one of trainer/preference/losses; beta 5 is LFM2's. ``loop.length`` bounds prompt and answer:
    longer pairs are left out and counted."""

    kind: ClassVar[str] = "preference"
    scratch: ClassVar[tuple[str, ...]] = (REFERENCE,)
    start: str
    pairs: str = "preference_data"
    loss: str = "joint"
    beta: float = 5.0
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(kd_weight=0.0, learning_rate=8e-7, schedule="cosine"))
    data: str = "data"

    def __post_init__(self) -> None:
        loss_named(self.loss)

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.start, self.pairs, self.data)

    def run(self, context: StageContext) -> dict[str, Any]:
        found = read_pairs(context.inputs[self.pairs] / PAIRS)
        fitting = [p for p in found if len(p.prompt) + max(len(p.chosen), len(p.rejected)) <= self.loop.length]
        if not fitting:
            raise HilnasError(
                f"none of {len(found)} pairs fits {self.loop.length} tokens; give the loop a greater length"
            )
        model = on_device(whole_model(context.inputs[self.start]))
        train_on_pairs(model, fitting, loss_named(self.loss), self.beta, self.loop, context.folder, context.progress)
        model.save_pretrained(context.folder / MODEL)
        with_tokenizer(context.inputs[self.data], context.folder / MODEL)
        rows = Records(context.folder / "curve.jsonl").read()
        mean = lambda key, part: round(sum(row[key] for row in part) / len(part), 5)  # noqa: E731
        return {
            "pairs": len(fitting), "left_out": len(found) - len(fitting), "tokens": sum(row["tokens"] for row in rows),
            "first_loss": mean("loss", rows[:ENDS]), "last_loss": mean("loss", rows[-ENDS:]),
            "last_accuracy": mean("accuracy", rows[-ENDS:]), "chosen_log_ratio": mean("chosen", rows[-ENDS:]),
            "rejected_log_ratio": mean("rejected", rows[-ENDS:]),
        }  # fmt: skip

    def check(self, folder: Path) -> None:
        check_model(folder)
