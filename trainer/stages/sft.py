"""Stage ``sft``: supervised fine-tuning on the answers of examples, all of them or a specialist's, in the order of a
curriculum where there is one."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from foundation.errors import InvalidConfig
from trainer.data.chat import encode
from trainer.data.vocabulary import VOCABULARY, Vocabulary
from trainer.engine.config import LoopConfig
from trainer.examples.files import EXAMPLES, read_examples
from trainer.examples.stream import Draws, write_stream
from trainer.pipeline.stage import Stage, StageContext
from trainer.stages.continuation import check_model, continue_training, copy_model
from trainer.stages.curriculum import EASE, easiest_first
from trainer.stages.rl import COLD_START
from trainer.tasks.base import Example

STREAM = "stream.bin"


@dataclass(frozen=True)
class SftStage(Stage):
    """``tasks`` are the beginnings of the tasks' names that it trains on, all without. ``first_share`` of the examples,
    the easiest by ``curriculum``, come first. Labels are answers and the text that fills rows. ``cold_start`` names a
    stage of reinforcement learning: the tasks that never rose there are the ones trained on, and where all rose the
    model stays as it is."""

    kind: ClassVar[str] = "sft"
    scratch: ClassVar[tuple[str, ...]] = (STREAM, "stream.learned")
    start: str = "extend"
    tasks: tuple[str, ...] = ()
    curriculum: str | None = None
    first_share: float = 0.4
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(kd_weight=0.0, in_order=True))
    examples: str = "sft_data"
    data: str = "data"
    processes: int = 1
    cold_start: str | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.start, self.examples, self.data, *filter(None, (self.curriculum, self.cold_start)))

    def run(self, context: StageContext) -> dict[str, Any]:
        if self.cold_start:
            lacking = tuple(json.loads((context.inputs[self.cold_start] / COLD_START).read_text()))
            if not lacking:
                copy_model(context.inputs[self.start], context.folder)
                return {"tasks": [], "examples": 0, "tokens": 0}
            return replace(self, tasks=lacking, cold_start=None).run(context)
        data = context.inputs[self.data]
        shares = self._write_stream(context, data)
        trained = continue_training(
            context, context.inputs[self.start], data, self.loop, stream=context.folder / STREAM,
            processes=self.processes,
        )  # fmt: skip
        return {**trained, **shares}

    def _write_stream(self, context: StageContext, data: Path) -> dict[str, Any]:
        examples = read_examples(context.inputs[self.examples] / EXAMPLES)
        chosen = self._chosen(examples)
        vocabulary = Vocabulary.load(data / VOCABULARY)
        tokenizer = Tokenizer.from_file(str(data / "tokenizer" / "tokenizer.json"))
        encoded = [encode(tokenizer, e.conversation, e.answer, vocabulary.end) for e in examples]
        draws = Draws(self.first_share if self.curriculum else 1.0, seed=self.loop.seed)
        text = np.memmap(data / "train.bin", np.int32, "r")
        num_rows = self.loop.steps * self.loop.batch
        order = chosen[self._order(context, chosen)]
        shares = write_stream(context.folder / STREAM, encoded, order, draws, num_rows, self.loop.length, text)
        return {"examples": len(chosen), **shares}

    def _chosen(self, examples: list[Example]) -> NDArray[np.int64]:
        chosen = [i for i, e in enumerate(examples) if not self.tasks or e.task.startswith(self.tasks)]
        if not chosen:
            there = ", ".join(sorted({example.task for example in examples}))
            raise InvalidConfig(f"no example is of the tasks {', '.join(self.tasks)}; there are {there}")
        return np.array(chosen, np.int64)

    def _order(self, context: StageContext, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        if self.curriculum is None:
            return np.arange(len(chosen))
        return easiest_first(np.load(context.inputs[self.curriculum] / EASE)[chosen])

    def resolved(self) -> dict[str, Any]:
        plain = super().resolved()
        return {
            key: value for key, value in plain.items() if key != "processes" and (key, value) != ("cold_start", None)
        }

    def check(self, folder: Path) -> None:
        check_model(folder)
