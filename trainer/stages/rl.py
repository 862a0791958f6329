"""Stage ``rl``: a model is rewarded for answers that a verifier accepts, on a curriculum that moves with success."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from foundation.files import write_atomically
from trainer.engine.config import LoopConfig
from trainer.engine.launch import MODEL, whole_model
from trainer.examples.success import on_device
from trainer.pipeline.records import Records
from trainer.pipeline.stage import Stage, StageContext
from trainer.rl.config import RlConfig
from trainer.rl.curriculum import Curriculum
from trainer.rl.groups import Sampling
from trainer.rl.train import reinforce
from trainer.stages.continuation import check_model, with_tokenizer
from trainer.tasks.registry import task_named

COLD_START = "cold_start.json"


@dataclass(frozen=True)
class RlStage(Stage):
    """``tasks`` without levels; ``loop.steps`` rounds of ``updates`` steps. Tasks whose success never rose are told in
    cold_start.json, which a fine-tuning stage can begin from (SftStage.cold_start)."""

    kind: ClassVar[str] = "rl"
    start: str
    tasks: tuple[str, ...]
    most_level: int = 2
    sampling: Sampling = Sampling()
    levers: RlConfig = RlConfig()
    updates: int = 2
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(kd_weight=0.0, weight_decay=0.0))
    data: str = "data"

    def __post_init__(self) -> None:
        for name in self.tasks:
            task_named(name)

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.start, self.data)

    def run(self, context: StageContext) -> dict[str, Any]:
        from transformers import AutoTokenizer

        source = context.inputs[self.start]
        model, tokenizer = on_device(whole_model(source)), AutoTokenizer.from_pretrained(source / MODEL)
        curriculum = reinforce(
            model, tokenizer, self.tasks, self.most_level, self.sampling, self.levers, self.loop, self.updates,
            context.folder, context.progress,
        )  # fmt: skip
        write_atomically(context.folder / COLD_START, json.dumps(curriculum.stuck()))
        model.save_pretrained(context.folder / MODEL)
        with_tokenizer(context.inputs[self.data], context.folder / MODEL)
        return told(Records(context.folder / "curve.jsonl").read(), curriculum)

    def check(self, folder: Path) -> None:
        check_model(folder)


def told(rows: Sequence[dict[str, Any]], curriculum: Curriculum) -> dict[str, Any]:
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
