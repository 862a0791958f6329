"""Stage ``curriculum``: how often several checkpoints answer each example, which is how easy it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from foundation.errors import HilnasError
from trainer.data.vocabulary import VOCABULARY, Vocabulary
from trainer.engine.launch import whole_model
from trainer.examples.files import EXAMPLES, read_examples
from trainer.examples.success import on_device, success
from trainer.pipeline.stage import Stage, StageContext

EASE = "ease.npy"


@dataclass(frozen=True)
class CurriculumStage(Stage):
    kind: ClassVar[str] = "curriculum"
    checkpoints: tuple[str, ...]
    examples: str = "sft_data"
    data: str = "data"

    @property
    def inputs(self) -> tuple[str, ...]:
        return (*self.checkpoints, self.examples, self.data)

    def run(self, context: StageContext) -> dict[str, Any]:
        data = context.inputs[self.data]
        examples = read_examples(context.inputs[self.examples] / EXAMPLES)
        tokenizer = Tokenizer.from_file(str(data / "tokenizer" / "tokenizer.json"))
        end = Vocabulary.load(data / VOCABULARY).end
        rates, likelihoods = np.zeros(len(examples)), np.zeros(len(examples))
        for index, name in enumerate(self.checkpoints):
            context.progress(index / len(self.checkpoints), f"success of {name}")
            found = success(on_device(whole_model(context.inputs[name])), tokenizer, examples, end)
            rates += found.right / len(self.checkpoints)
            likelihoods += found.logprob / len(self.checkpoints)
        np.save(context.folder / EASE, np.stack([rates, likelihoods], 1))
        tasks = np.array([example.task for example in examples])
        return {
            "success_rate": round(float(rates.mean()), 4),
            "by_task": {str(task): round(float(rates[tasks == task].mean()), 4) for task in np.unique(tasks)},
            "never_answered": int((rates == 0).sum()), "always_answered": int((rates >= 1).sum()),
        }  # fmt: skip

    def check(self, folder: Path) -> None:
        if not (folder / EASE).exists():
            raise HilnasError(f"{folder / EASE} is gone")


def easiest_first(ease_N2: NDArray[np.float64]) -> NDArray[np.int64]:
    """By success rate, then by likelihood."""
    return np.lexsort((-ease_N2[:, 1], -ease_N2[:, 0]))
