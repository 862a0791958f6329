"""Stage ``integrate``: specialists merged in several ways, and the one kept that does best on the validation tasks."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from foundation.files import atomic_folder, write_atomically
from search_space.modeling.model import HilnasForCausalLM
from trainer.data.token_dir import TokenDir
from trainer.engine.model_dir import MODEL, ModelDir, on_device
from trainer.examples.solved import share_solved
from trainer.examples.success import success
from trainer.merging.merge import merge
from trainer.merging.methods import method_of
from trainer.pipeline.brief import Brief
from trainer.pipeline.fields import source
from trainer.pipeline.stage import STAGES, Stage, StageContext, StageDir
from trainer.rollout.episodes import RolloutConfig
from trainer.tasks.registry import task_named

GREEDY = RolloutConfig(max_new_tokens=64, temperature=0.0)
# method with its options, as recipes write them: "ties scale=1.0 density=0.5"
DEFAULT_CANDIDATES = (
    "linear", "slerp t=0.5", "task_arithmetic scale=0.7", "task_arithmetic scale=1.0", "ties density=0.5",
    "dare_ties density=0.5", "della density=0.5",
)  # fmt: skip


@STAGES.register("integrate")
@dataclass(frozen=True)
class IntegrateStage(Stage):
    """Every candidate's score is the mean over ``tasks`` of its success on ``count`` validation examples each. A
    specialist stays when no merge reaches it, and ``base`` when nothing is better than it."""

    kind: ClassVar[str] = "integrate"
    title: ClassVar[str] = "specialists merged in several ways, the best kept"
    output: ClassVar[type[StageDir]] = ModelDir
    scratch: ClassVar[tuple[str, ...]] = ("candidates",)
    base: str = field(metadata=source(ModelDir))
    specialists: tuple[str, ...] = field(metadata=source(ModelDir))
    tasks: tuple[str, ...]
    count: int = 100
    candidates: tuple[str, ...] = DEFAULT_CANDIDATES
    data: str = field(default="data", metadata=source(TokenDir))

    def __post_init__(self) -> None:
        for text in self.candidates:
            method_of(text).check(len(self.specialists))
        for name in self.tasks:
            task_named(name)

    def run(self, context: StageContext) -> dict[str, Any]:
        scores: dict[str, float] = {}
        singles = {name: context.read(ModelDir, name).path for name in (self.base, *self.specialists)}
        folders = {**singles, **{text: context.folder / "candidates" / _slug(text) for text in self.candidates}}
        for index, (name, folder) in enumerate(folders.items()):
            context.progress(index / len(folders), f"{name}")
            if name not in singles and not folder.exists():
                self._merge(name, singles, folder)
            scores[name] = round(self._score(folder, context.read(TokenDir, self.data)), 4)
        best = max(scores, key=lambda name: (scores[name], name == self.base, name in self.candidates))
        _keep(folders[best], context.folder)
        return {
            "chosen": best, "score": scores[best], "best_specialist": max(scores[name] for name in self.specialists),
            "base": scores[self.base], "scores": scores,
        }  # fmt: skip

    def _merge(self, text: str, singles: dict[str, Path], out: Path) -> None:
        out.parent.mkdir(exist_ok=True)
        method = method_of(text)
        base = singles[self.base] if method.needs_base else None
        merge(method, [singles[specialist] for specialist in self.specialists], out, base)

    def _score(self, folder: Path, tokens: TokenDir) -> float:
        from transformers import AutoTokenizer

        tokenizer, end = tokens.tokenizer(), tokens.vocabulary().end
        model = on_device(HilnasForCausalLM.from_pretrained(folder))
        means = []
        for name in self.tasks:
            task = task_named(name)
            if hasattr(task, "converse"):  # tools answer in between: a stored answer says nothing of the way to it
                means.append(
                    share_solved(model, AutoTokenizer.from_pretrained(folder), task, "validation", self.count, GREEDY)
                )
            else:
                found = success(model, tokenizer, task.examples("validation", self.count), end)
                means.append(float(found.right.mean()))
        return sum(means) / len(means)

    def cost(self, costing: object) -> None:
        """Some hundred short answers of every candidate."""

    def shortened(self, brief: Brief) -> IntegrateStage:
        return replace(self, count=1, candidates=self.candidates[:2])


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text)


def _keep(model: Path, folder: Path) -> None:
    """``folder/model`` appears whole."""
    with atomic_folder(folder / MODEL) as partial:
        shutil.copytree(model, partial, dirs_exist_ok=True)
    shutil.rmtree(folder / "candidates", ignore_errors=True)
    write_atomically(folder / "chosen.txt", f"{model.name}\n")
