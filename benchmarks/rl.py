"""Reinforcement learning with every lever switched off in turn, on the same start and the same seeds.

Success is that of the policy on test questions of its curriculum, sampled as its rollouts are and greedily; doom loops
are greedy. A variant and seed that is done is kept, so the benchmark may be ended and started again.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import publish
from benchmarks.resume import KeptRows
from trainer.data.token_dir import TokenDir
from trainer.engine.model_dir import ModelDir
from trainer.evaluation.doom_loops import doom_loops
from trainer.evaluation.subject import Settings, open_subject
from trainer.examples.solved import share_solved
from trainer.pipeline.chain import run_stage
from trainer.recipes.alignment import AGENTS
from trainer.recipes.full import settings
from trainer.recipes.tiny import TOOLS
from trainer.results.records import run_record
from trainer.rl.config import RlConfig
from trainer.rollout.episodes import RolloutConfig
from trainer.stages.rl import RlStage
from trainer.tasks.registry import task_named

AFTER = ("recipe_full",)  # whose run it reads
TASKS = (*TOOLS, *AGENTS)
Row = dict[str, Any]
ALL = RlConfig()
VARIANTS = {
    "all levers": ALL,
    "symmetric clipping": replace(ALL, clip_high=ALL.clip_low),
    "no dynamic filter": replace(ALL, dynamic_filter=False),
    "filter without refill": replace(ALL, refills=0),
    "no overlong masking": replace(ALL, mask_overlong=False),
    "normalized advantages": replace(ALL, normalize_advantages=True),
    "no importance sampling": replace(ALL, importance_cap=0.0),
    "no repetition penalty": replace(ALL, repetition_penalty=0.0),
    "no curriculum": replace(ALL, curriculum=False),
}


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--root", type=Path, default=Path("var/train"), help="of runs")
    options.add_argument("--run", default="recipe_full", help="whose model is taken")
    options.add_argument("--start", default="sft_agent", help="the stage that left the model")
    options.add_argument("--rounds", type=int, default=12)
    options.add_argument("--seeds", type=int, default=2)
    options.add_argument("--count", type=int, default=60, help="test questions of each task")
    given = options.parse_args()
    start, runs = measure(given.root.resolve(), given.run, given.start, Size(given.rounds, given.seeds, given.count))
    rows = judge(runs)
    summary = {
        "rounds": given.rounds,
        "seeds": given.seeds,
        "start": start,
        "levers": {row.pop("variant"): row for row in map(dict, rows)},
    }
    publish("rl", summary, rows, runs)


@dataclass(frozen=True)
class Size:
    """``count`` test questions of each task."""

    rounds: int
    seeds: int
    count: int


def measure(root: Path, run: str, start: str, size: Size) -> tuple[Row, list[Row]]:
    """The start, and every variant under every seed."""
    record = run_record(root, run)
    folders = {stage.name: stage.folder for stage in record.stages} | {start: record.stage(start).folder}
    inputs = {name: folders[name] for name in (start, "data")}
    kept = KeptRows(root, "rl", [folders[start].name, size.rounds, size.count, asdict(settings(1.0).rl)])
    before = kept.once("start", 0, lambda: scores(inputs[start], inputs["data"], size.count))

    def one(name: str, seed: int) -> Row:
        row = kept.once(name, seed, lambda: trained(VARIANTS[name], seed, inputs, size))
        return {"variant": name, "seed": seed, **row}

    return before, [one(name, seed) for name in VARIANTS for seed in range(size.seeds)]


def trained(levers: RlConfig, seed: int, inputs: dict[str, Path], size: Size) -> Row:
    """``inputs``: the start, then the data."""
    setup, start = settings(1.0), next(iter(inputs))
    loop = replace(setup.rl, steps=size.rounds, seed=seed, save_every=10_000)
    stage = RlStage(start, TASKS, setup.most_level, setup.sampling, levers, loop=loop)
    folder = Path(tempfile.mkdtemp(dir=inputs[start].parents[1]))
    try:
        made = run_stage(stage, folder / "rl", inputs, lambda share, message: print(message, flush=True))["metrics"]
        return {**scores(folder / "rl", inputs["data"], size.count), **figures(made)}
    finally:
        shutil.rmtree(folder)


def figures(made: dict[str, Any]) -> dict[str, float]:
    groups = made["groups"]
    return {
        "filtered_share": made["filtered_share"], "refilled_share": round(groups["refilled"] / groups["drawn"], 4),
        "effective_batch": made["effective_batch"], "clipped": made["clipped"], "importance": made["importance"],
    }  # fmt: skip


def scores(stage: Path, data: Path, count: int) -> dict[str, float]:
    """Success on the curriculum's tasks at level 0, sampled and greedy; greedy doom loops."""
    with tempfile.TemporaryDirectory() as folder:
        subject = open_subject(ModelDir(stage), TokenDir(data), Path(folder), Settings(count=64, max_new_tokens=256))
        loops = next(iter(doom_loops(subject))).value
    play = settings(1.0).sampling.play
    return {"success_sampled": _success(subject, play, count), "doom_loops": round(loops, 4),
            "success_greedy": _success(subject, replace(play, temperature=0.0), count)}  # fmt: skip


def _success(subject: Any, how: RolloutConfig, count: int) -> float:
    found = [share_solved(subject.model, subject.tokenizer, task_named(n), "test", count, how) for n in TASKS]
    return round(float(np.mean(found)), 4)


def judge(runs: list[Row]) -> list[Row]:
    """Variant by variant; there is no bar."""
    return [averaged(name, [run for run in runs if run["variant"] == name]) for name in VARIANTS]


def averaged(name: str, runs: list[Row]) -> Row:
    """Means over seeds, and how far apart the seeds' sampled successes are."""
    keys = [key for key in runs[0] if key not in ("variant", "arm", "seed")]
    means = {key: round(float(np.mean([run[key] for run in runs])), 4) for key in keys}
    spread = [run["success_sampled"] for run in runs]
    return {"variant": name, **means, "success_between_seeds": round(max(spread) - min(spread), 4)}


if __name__ == "__main__":
    main()
