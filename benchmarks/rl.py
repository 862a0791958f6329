"""Reinforcement learning with every lever switched off in turn, on the same start and the same seeds.

Success is that of the policy on test questions of its curriculum, sampled as its rollouts are and greedily; doom loops
are greedy. A variant and seed that is done is kept, so the benchmark may be ended and started again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.distillation import once
from benchmarks.qat import folders_of
from benchmarks.record import publish
from trainer.evaluation.doom_loops import doom_loops
from trainer.evaluation.subject import Settings, open_subject
from trainer.examples.solved import share_solved
from trainer.pipeline.chain import run_stage
from trainer.pipeline.records import Records
from trainer.recipes.alignment import AGENTS
from trainer.recipes.full import settings
from trainer.recipes.tiny import TOOLS
from trainer.rl.config import RlConfig
from trainer.rollout.episodes import RolloutConfig
from trainer.stages.rl import RlStage
from trainer.tasks.registry import task_named

TASKS = (*TOOLS, *AGENTS)
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
    folders = folders_of(given.root, given.run, given.start)
    told = json.dumps([folders[given.start].name, given.rounds, given.count, asdict(settings(1.0).rl)])
    kept = Records(given.root / f"rl-{hashlib.sha256(told.encode()).hexdigest()[:12]}.jsonl")
    start = once(kept, "start", 0, lambda: judged(folders[given.start], folders["data"], given.count))
    runs = [one(kept, name, seed, folders, given) for name in VARIANTS for seed in range(given.seeds)]
    rows = [averaged(name, [one for one in runs if one["variant"] == name]) for name in VARIANTS]
    summary = {
        "rounds": given.rounds,
        "seeds": given.seeds,
        "start": start,
        "levers": {r.pop("variant"): r for r in map(dict, rows)},
    }
    publish("rl", summary, rows, runs)


def one(kept: Records, name: str, seed: int, folders: dict[str, Path], given: argparse.Namespace) -> dict[str, Any]:
    return {"variant": name, "seed": seed, **once(kept, name, seed, lambda: run(VARIANTS[name], seed, folders, given))}


def run(levers: RlConfig, seed: int, folders: dict[str, Path], given: argparse.Namespace) -> dict[str, Any]:
    setup = settings(1.0)
    loop = replace(setup.rl, steps=given.rounds, seed=seed, save_every=10_000)
    stage = RlStage(given.start, TASKS, setup.most_level, setup.sampling, levers, loop=loop)
    folder = Path(tempfile.mkdtemp(dir=given.root))
    inputs = {given.start: folders[given.start], "data": folders["data"]}
    try:
        made = run_stage(stage, folder / "rl", inputs, lambda share, message: print(message, flush=True))["metrics"]
        return {**judged(folder / "rl", folders["data"], given.count), **figures(made)}
    finally:
        shutil.rmtree(folder)


def figures(made: dict[str, Any]) -> dict[str, float]:
    groups = made["groups"]
    return {
        "filtered_share": made["filtered_share"], "refilled_share": round(groups["refilled"] / groups["drawn"], 4),
        "effective_batch": made["effective_batch"], "clipped": made["clipped"], "importance": made["importance"],
    }  # fmt: skip


def judged(stage: Path, data: Path, count: int) -> dict[str, float]:
    """Success on the curriculum's tasks at level 0, sampled and greedy; greedy doom loops."""
    with tempfile.TemporaryDirectory() as folder:
        subject = open_subject(stage, data, Path(folder), Settings(count=64, max_new_tokens=256))
        loops = next(iter(doom_loops(subject))).value
    play = settings(1.0).sampling.play
    return {"success_sampled": _success(subject, play, count), "doom_loops": round(loops, 4),
            "success_greedy": _success(subject, replace(play, temperature=0.0), count)}  # fmt: skip


def _success(subject: Any, how: RolloutConfig, count: int) -> float:
    found = [share_solved(subject.model, subject.tokenizer, task_named(n), "test", count, how) for n in TASKS]
    return round(float(np.mean(found)), 4)


def averaged(name: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds, and how far apart the seeds' sampled successes are."""
    keys = [key for key in runs[0] if key not in ("variant", "arm", "seed")]
    means = {key: round(float(np.mean([one[key] for one in runs])), 4) for key in keys}
    spread = [one["success_sampled"] for one in runs]
    return {"variant": name, **means, "success_between_seeds": round(max(spread) - min(spread), 4)}


if __name__ == "__main__":
    main()
