"""Stage ``qat``: fine-tuning that computes as the exported 8da4w program does, so that the weights which it leaves are
those that quantization harms least."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from nas.contracts.errors import InvalidConfig
from search_space.modeling.model import HilnasForCausalLM
from trainer.data.packing import PackedStream
from trainer.data.vocabulary import VOCABULARY, Vocabulary
from trainer.loop.config import LoopConfig
from trainer.loop.evaluate import bits_per_byte
from trainer.loop.launch import MODEL, Job, launch
from trainer.pipeline.records import Records
from trainer.pipeline.stage import StageContext
from trainer.quantization.exported import difference
from trainer.quantization.modules import quantized
from trainer.quantization.rounding import ROUNDINGS
from trainer.stages.going_on import arch_of, with_tokenizer
from trainer.stages.sft import STREAM, SftStage

CHECKED_TOKENS = 64


@dataclass(frozen=True)
class QatStage(SftStage):
    """Rows are those of fine-tuning; with ``examples`` None they are training text alone. ``model`` has the float
    master weights: exporting them rounds them to the values that its metrics were taken with."""

    kind: ClassVar[str] = "qat"
    start: str = "merge"
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(kd_weight=0.0, in_order=True))
    examples: str | None = "sft_data"  # type: ignore[assignment]
    rounding: str = "nearest"
    eval_rows: int = 512

    def __post_init__(self) -> None:
        if self.rounding not in ROUNDINGS:
            raise InvalidConfig(f"rounding {self.rounding!r} is none; {' and '.join(ROUNDINGS)} are")
        if self.examples is None and (self.tasks or self.curriculum):
            raise InvalidConfig("tasks and a curriculum choose among examples; name the stage that has them")

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(name for name in (self.start, self.examples, self.data, self.curriculum) if name)

    def run(self, context: StageContext) -> dict[str, Any]:
        data, start = context.inputs[self.data], context.inputs[self.start] / MODEL
        shares = self._write_stream(context, data) if self.examples else {}
        job = Job(
            arch_of(start).to_dict(), asdict(self.loop), str(data), None, str(context.folder), str(start),
            str(context.folder / STREAM) if self.examples else None, self.rounding,
        )  # fmt: skip
        launch(job, self.processes, context.progress, context.launcher)
        with_tokenizer(data, context.folder / MODEL)
        rows = Records(context.folder / "curve.jsonl").read()
        return {
            "tokens": self.loop.steps * self.loop.batch * self.loop.length,
            "first_loss": rows[0]["loss"], "last_loss": rows[-1]["loss"],
            "tokens_per_s": sorted(row["tokens_per_s"] for row in rows)[len(rows) // 2],
            **shares, **self._compared(start, context.folder / MODEL, data),
        }  # fmt: skip

    def _compared(self, before: Path, after: Path, data: Path) -> dict[str, Any]:
        """Held-out text in float and as exported, before and after; and how far apart training and export are."""
        vocabulary = Vocabulary.load(data / VOCABULARY)
        held_out = PackedStream.open(data / "held_out.bin", self.loop.length, vocabulary.end)
        first, last = (HilnasForCausalLM.from_pretrained(folder) for folder in (before, after))
        models = {"fp32": first, "ptq": quantized(first), "qat": quantized(last), "qat_fp32": last}
        bits = {
            name: round(bits_per_byte(model, held_out, vocabulary.num_bytes, self.eval_rows), 5)
            for name, model in models.items()
        }
        ids = np.fromfile(data / "held_out.bin", np.int32, CHECKED_TOKENS).tolist()
        return {"held_out_bits_per_byte": bits, "max_difference": difference(last, ids)}
