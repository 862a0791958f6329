"""Stage ``rl``: a model is rewarded for answers that a verifier accepts, on a curriculum that moves with success."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from foundation.files import write_atomically
from trainer.data.token_dir import TokenDir
from trainer.engine.config import LoopConfig
from trainer.engine.model_dir import ModelDir, on_device
from trainer.pipeline.brief import Brief
from trainer.pipeline.costing import Cost, Costing
from trainer.pipeline.fields import source
from trainer.pipeline.stage import STAGES, StageContext
from trainer.rl.config import RlConfig
from trainer.rl.curriculum import Curriculum
from trainer.rl.groups import Sampling
from trainer.rl.train import reinforce
from trainer.rollout.episodes import RolloutConfig
from trainer.stages.training import TrainingStage
from trainer.tasks.registry import task_named

COLD_START = "cold_start.json"  # tasks whose success never rose


@dataclass(frozen=True)
class RlDir(ModelDir):
    what: ClassVar[str] = "a model by reinforcement learning"
    required: ClassVar[tuple[str, ...]] = (*ModelDir.required, COLD_START)

    def unsolved(self) -> tuple[str, ...]:
        """Tasks whose success never rose."""
        return tuple(json.loads((self.folder / COLD_START).read_text()))


@STAGES.register("rl")
@dataclass(frozen=True)
class RlStage(TrainingStage):
    """``tasks`` without levels; ``loop.steps`` rounds of ``updates`` steps. Tasks whose success never rose stand in
    cold_start.json, which a fine-tuning stage can begin from (SftStage.cold_start)."""

    kind: ClassVar[str] = "rl"
    title: ClassVar[str] = "reinforcement learning on verified answers"
    output: ClassVar[type[ModelDir]] = RlDir
    start: str = field(metadata=source(ModelDir))
    tasks: tuple[str, ...]
    most_level: int = 2
    sampling: Sampling = Sampling()
    levers: RlConfig = RlConfig()
    updates: int = 2
    loop: LoopConfig = field(default=LoopConfig(kd_weight=0.0, weight_decay=0.0), kw_only=True)
    data: str = field(default="data", metadata=source(TokenDir))

    def __post_init__(self) -> None:
        for name in self.tasks:
            task_named(name)

    def run(self, context: StageContext) -> dict[str, Any]:
        start = context.read(ModelDir, self.start)
        model, tokenizer = on_device(start.load()), start.tokenizer()
        curriculum = reinforce(
            model, tokenizer, self.tasks, self.most_level, self.sampling, self.levers, self.loop, self.updates,
            context.folder, context.progress,
        )  # fmt: skip
        write_atomically(context.folder / COLD_START, json.dumps(curriculum.stuck()))
        ModelDir(context.folder).save(model, context.read(TokenDir, self.data))
        return summary(context.curve.read(), curriculum)

    def cost(self, costing: Costing) -> Cost:
        episodes, play = self.loop.steps * self.sampling.groups * self.sampling.size, self.sampling.play
        return costing.reinforcing(self.loop.steps, episodes, play.max_new_tokens, play.max_length)

    def shortened(self, brief: Brief) -> RlStage:
        short = Sampling(1, 2, RolloutConfig(8, max_length=16 * brief.row))
        return replace(self, loop=self.loop.once(brief.examples_row), sampling=short)


def summary(rows: Sequence[dict[str, Any]], curriculum: Curriculum) -> dict[str, Any]:
    """Success of the first and the last fifth of the rounds, and what became of groups."""
    fifth = max(1, len(rows) // 5)
    calls: Counter[str] = Counter()
    for row in rows:
        calls.update(row.get("python_calls", {}))
    mean = lambda key, part: round(sum(row[key] for row in part) / len(part), 4)  # noqa: E731
    total = {key: sum(row[key] for row in rows) for key in ("drawn", "filtered", "refilled", "spoiled", "too_long")}
    return {
        "first_success": mean("success", rows[:fifth]), "last_success": mean("success", rows[-fifth:]),
        "first_reward": mean("reward", rows[:fifth]), "last_reward": mean("reward", rows[-fifth:]),
        "groups": total, "filtered_share": round(total["filtered"] / max(1, total["drawn"]), 4),
        "effective_batch": mean("kept", rows), "clipped": mean("clipped", rows), "importance": mean("importance", rows),
        "tokens": sum(row["tokens"] for row in rows), "levels": {name: t.level for name, t in curriculum.tasks.items()},
        "prefix_reused": rows[-1]["prefix_reused"], "prefix_seconds_saved": rows[-1]["prefix_seconds_saved"],
        "needs_cold_start": curriculum.stuck(), "python_calls": dict(calls),
    }  # fmt: skip
