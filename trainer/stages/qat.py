"""Stage ``qat``: fine-tuning that computes as the exported 8da4w program does, so that the weights which it leaves are
those that quantization harms least."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from foundation.errors import InvalidConfig
from trainer.data.token_dir import TokenDir
from trainer.engine.config import LoopConfig
from trainer.engine.evaluate import bits_per_byte
from trainer.engine.model_dir import ModelDir
from trainer.examples.files import ExamplesDir
from trainer.examples.stream import STREAM, ExampleRows
from trainer.pipeline.brief import Brief
from trainer.pipeline.fields import in_digest, source
from trainer.pipeline.stage import STAGES, StageContext
from trainer.quantization.exported import differences
from trainer.quantization.modules import quantized
from trainer.quantization.rounding import ROUNDINGS
from trainer.stages.curriculum import EaseDir
from trainer.stages.training import TrainingStage, train_on_stream

CHECKED_TOKENS = 64


@STAGES.register("qat")
@dataclass(frozen=True)
class QatStage(TrainingStage):
    """Rows are those of fine-tuning, but ``text_rows`` of them are training text alone (all, with ``examples`` None).
    ``model`` has the float master weights: exporting rounds them to what its metrics were taken with. ``rounding`` None
    trains as long in float, as a control.
    """

    kind: ClassVar[str] = "qat"
    title: ClassVar[str] = "fine-tuning that computes as the quantized program does"
    scratch: ClassVar[tuple[str, ...]] = (STREAM, "stream.learned")
    start: str = field(default="merge", metadata=source(ModelDir))
    tasks: tuple[str, ...] = ()
    first_share: float = 0.4
    loop: LoopConfig = field(default=LoopConfig(kd_weight=0.0, in_order=True), kw_only=True)
    examples: str | None = field(default="sft_data", metadata=source(ExamplesDir))
    data: str = field(default="data", metadata=source(TokenDir))
    curriculum: str | None = field(default=None, metadata=source(EaseDir))
    processes: int = field(default=1, metadata=in_digest("never"))
    rounding: str | None = "nearest"
    text_rows: float = 0.5
    eval_rows: int = 128

    def __post_init__(self) -> None:
        if self.rounding is not None and self.rounding not in ROUNDINGS:
            raise InvalidConfig(f"unknown rounding {self.rounding!r}; known: {', '.join(ROUNDINGS)}")
        if self.examples is None and (self.tasks or self.curriculum):
            raise InvalidConfig("tasks and a curriculum choose among examples; name the stage that has them")
        if not self.loop.in_order:
            raise InvalidConfig("qat draws its rows itself; its loop needs in_order=True")

    def run(self, context: StageContext) -> dict[str, Any]:
        tokens, start = context.read(TokenDir, self.data), context.read(ModelDir, self.start)
        shares = self.write_rows(context)
        trained = train_on_stream(
            context, self.loop, tokens, start.arch(), self.processes, start=start, stream=context.folder / STREAM,
            rounding=self.rounding,
        )  # fmt: skip
        return {**trained, **shares, **self._compared(start, ModelDir(context.folder), tokens)}

    def write_rows(self, context: StageContext) -> dict[str, Any]:
        """Every row that the loop will read, in its order."""
        tokens, path = context.read(TokenDir, self.data), context.folder / STREAM
        num_rows = self.loop.steps * self.loop.batch
        shares = self._example_rows(context, path, tokens, num_rows)
        draw = np.random.default_rng((self.loop.seed, num_rows))
        of_text = draw.random(num_rows) < (self.text_rows if self.examples is not None else 1.0)
        text = tokens.tokens("train")
        return {**shares, "label_share": _fill(path, np.flatnonzero(of_text), text, self.loop.length, draw)}

    def _example_rows(self, context: StageContext, path: Path, tokens: TokenDir, num_rows: int) -> dict[str, Any]:
        if self.examples is None:
            return _blank(path, num_rows, self.loop)
        ease = context.read(EaseDir, self.curriculum).read() if self.curriculum else None
        rows = ExampleRows(context.read(ExamplesDir, self.examples).read(), self.tasks, ease, self.first_share)
        return rows.write(path, tokens, num_rows, self.loop.length, self.loop.seed)

    def _compared(self, before: ModelDir, after: ModelDir, tokens: TokenDir) -> dict[str, Any]:
        """Held-out text in float and as exported, before and after; and how far apart training and export are."""
        num_bytes, held_out = tokens.vocabulary().num_bytes, tokens.packed("held_out", self.loop.length)
        first, last = before.load(), after.load()
        models = {"fp32": first, "ptq": quantized(first), "qat": quantized(last), "qat_fp32": last}
        bits = {
            name: round(bits_per_byte(model, held_out, num_bytes, self.eval_rows), 5) for name, model in models.items()
        }
        apart = differences(last, tokens.tokens("held_out")[:CHECKED_TOKENS].tolist())
        return {
            "held_out_bits_per_byte": bits, "max_difference": max(apart), "median_difference": float(np.median(apart)),
        }  # fmt: skip

    def shortened(self, brief: Brief) -> QatStage:
        return replace(self, loop=self.loop.once(brief.examples_row), eval_rows=1)


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
