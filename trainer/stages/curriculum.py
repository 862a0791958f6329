"""Stage ``curriculum``: how often several checkpoints answer each example, which is how easy it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trainer.data.token_dir import TokenDir
from trainer.engine.model_dir import ModelDir, on_device
from trainer.examples.files import ExamplesDir
from trainer.examples.success import success
from trainer.pipeline.brief import Brief
from trainer.pipeline.fields import source
from trainer.pipeline.stage import STAGES, Stage, StageContext, StageDir

EASE = "ease.npy"


@dataclass(frozen=True)
class EaseDir(StageDir):
    what: ClassVar[str] = "a curriculum"
    required: ClassVar[tuple[str, ...]] = (EASE,)

    def read(self) -> NDArray[np.float64]:
        """[N, 2]: success rate and mean log-probability of each example."""
        found: NDArray[np.float64] = np.load(self.folder / EASE)
        return found


@STAGES.register("curriculum")
@dataclass(frozen=True)
class CurriculumStage(Stage):
    kind: ClassVar[str] = "curriculum"
    title: ClassVar[str] = "how often checkpoints answer each example"
    output: ClassVar[type[StageDir]] = EaseDir
    checkpoints: tuple[str, ...] = field(metadata=source(ModelDir))
    examples: str = field(default="sft_data", metadata=source(ExamplesDir))
    data: str = field(default="data", metadata=source(TokenDir))

    def run(self, context: StageContext) -> dict[str, Any]:
        tokens = context.read(TokenDir, self.data)
        examples = context.read(ExamplesDir, self.examples).read()
        tokenizer, end = tokens.tokenizer(), tokens.vocabulary().end
        rates, likelihoods = np.zeros(len(examples)), np.zeros(len(examples))
        for index, name in enumerate(self.checkpoints):
            context.progress(index / len(self.checkpoints), f"success of {name}")
            found = success(on_device(context.read(ModelDir, name).load()), tokenizer, examples, end)
            rates += found.right / len(self.checkpoints)
            likelihoods += found.logprob / len(self.checkpoints)
        np.save(context.folder / EASE, np.stack([rates, likelihoods], 1))
        tasks = np.array([example.task for example in examples])
        return {
            "success_rate": round(float(rates.mean()), 4),
            "by_task": {str(task): round(float(rates[tasks == task].mean()), 4) for task in np.unique(tasks)},
            "never_answered": int((rates == 0).sum()), "always_answered": int((rates >= 1).sum()),
        }  # fmt: skip

    def cost(self, costing: object) -> None:
        """A forward pass over some thousand examples."""

    def shortened(self, brief: Brief) -> CurriculumStage:
        return self
