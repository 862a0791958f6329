"""Stage ``qat``: fine-tuning that computes as the exported 8da4w program does, so that the weights which it leaves are
those that quantization harms least."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from foundation.errors import InvalidConfig
from search_space.modeling.model import HilnasForCausalLM
from trainer.data.packing import PackedStream
from trainer.data.vocabulary import VOCABULARY, Vocabulary
from trainer.engine.config import LoopConfig
from trainer.engine.evaluate import bits_per_byte
from trainer.engine.launch import MODEL, Job, launch
from trainer.pipeline.records import Records
from trainer.pipeline.stage import StageContext
from trainer.quantization.exported import differences
from trainer.quantization.modules import quantized
from trainer.quantization.rounding import ROUNDINGS
from trainer.stages.continuation import arch_of, with_tokenizer
from trainer.stages.sft import STREAM, SftStage

CHECKED_TOKENS = 64


@dataclass(frozen=True)
class QatStage(SftStage):
    """Rows are those of fine-tuning, but ``text_rows`` of them are training text alone (all, with ``examples`` None).
    ``model`` has the float master weights: exporting rounds them to what its metrics were taken with. ``rounding`` None
    trains as long in float, as a control.
    """

    kind: ClassVar[str] = "qat"
    start: str = "merge"
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(kd_weight=0.0, in_order=True))
    examples: str | None = "sft_data"  # type: ignore[assignment]
    rounding: str | None = "nearest"
    text_rows: float = 0.5
    eval_rows: int = 128

    def __post_init__(self) -> None:
        if self.rounding is not None and self.rounding not in ROUNDINGS:
            raise InvalidConfig(f"rounding {self.rounding!r} is none; {' and '.join(ROUNDINGS)} are")
        if self.examples is None and (self.tasks or self.curriculum):
            raise InvalidConfig("tasks and a curriculum choose among examples; name the stage that has them")
        if not self.loop.in_order:
            raise InvalidConfig("qat draws its rows itself; its loop needs in_order=True")

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(name for name in (self.start, self.examples, self.data, self.curriculum) if name)

    def run(self, context: StageContext) -> dict[str, Any]:
        data, start = context.inputs[self.data], context.inputs[self.start] / MODEL
        shares = self.write_rows(context)
        job = Job(
            arch_of(start).to_dict(), asdict(self.loop), str(data), None, str(context.folder), str(start),
            str(context.folder / STREAM), self.rounding,
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

    def write_rows(self, context: StageContext) -> dict[str, Any]:
        """Every row that the loop will read, in its order."""
        data, path = context.inputs[self.data], context.folder / STREAM
        num_rows = self.loop.steps * self.loop.batch
        shares = self._write_stream(context, data) if self.examples is not None else _blank(path, num_rows, self.loop)
        text = np.memmap(data / "train.bin", np.int32, "r")
        draw = np.random.default_rng((self.loop.seed, num_rows))
        of_text = draw.random(num_rows) < (self.text_rows if self.examples is not None else 1.0)
        return {**shares, "label_share": _fill(path, np.flatnonzero(of_text), text, self.loop.length, draw)}

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
        apart = differences(last, ids)
        return {
            "held_out_bits_per_byte": bits, "max_difference": max(apart), "median_difference": float(np.median(apart)),
        }  # fmt: skip


def _blank(path: Path, num_rows: int, loop: LoopConfig) -> dict[str, Any]:
    """Rows to be filled; a stream has one more token."""
    np.zeros(num_rows * loop.length + 1, np.int32).tofile(path)
    np.zeros(num_rows * loop.length + 1, np.bool_).tofile(path.with_suffix(".learned"))
    return {}


def _fill(
    path: Path, rows: NDArray[np.int64], text: NDArray[np.int32], length: int, draw: np.random.Generator
) -> float:
    """Puts text from anywhere into ``rows`` of a stream, all of it labels; returns the share of labels."""
    marks = path.with_suffix(".learned")
    ids, learned = np.fromfile(path, np.int32), np.fromfile(marks, np.bool_)
    for row in rows:
        begin, span = int(draw.integers(max(1, len(text) - length))), slice(row * length, (row + 1) * length)
        ids[span], learned[span] = text[begin : begin + length], True
    ids.tofile(path)
    learned.tofile(marks)
    return round(float(learned[:-1].mean()), 4)
