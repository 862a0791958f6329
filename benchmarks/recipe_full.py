"""The full recipe from a searched winner to the program on the device: minutes of the whole chain, each stage's
metrics, and whether each stage improved what it is for. Targets of the first half are those of the tiny recipe.

A stage that an earlier run finished is taken from there, and its recorded seconds count.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.record import console, publish
from hilnas.winner import searched_winner
from search_space.arch import ArchConfig
from trainer.engine.model_dir import ModelDir, on_device
from trainer.examples.solved import share_solved
from trainer.pipeline.chain import stage_folders
from trainer.recipes import RecipeOptions
from trainer.recipes.alignment import AGENTS
from trainer.recipes.full import full, settings
from trainer.recipes.improvements import improvements, main_figures
from trainer.recipes.tiny import REASONING, TOOLS
from trainer.rollout.episodes import RolloutConfig
from trainer.runs.local import run_here
from trainer.tasks.registry import task_named

MINUTES_BAR, POINTS_BAR, GAP_BAR = 45.0, 0.20, 0.5
# where each begins, and its curriculum; the bar is that of the tools': half of the reasoning tasks never rise here
SPECIALISTS = {"rl_tools": ("sft_agent", (*TOOLS, *AGENTS)), "rl_reasoning": ("preference", REASONING)}
COUNT = 150  # test questions of each task that a policy's success is taken on
Metrics = dict[str, dict[str, Any]]


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--root", type=Path, default=Path("var/train"), help="of runs; stages there are used again")
    options.add_argument("--scale", type=float, default=1.0)
    options.add_argument("--port", type=int, default=8128, help="of the coordinator that searches")
    given = options.parse_args()
    measured = measure(given.root, given.scale, given.port)
    rows = [{"stage": name, "seconds": record["seconds"], "figures": main_figures(record["metrics"])}
            for name, record in measured.records.items()]  # fmt: skip
    summary = {**judge(measured), "scale": given.scale, "arch": measured.arch.label}
    publish("recipe_full", summary, rows, measured.metrics)


@dataclass(frozen=True)
class Measured:
    """``success`` of each specialist before and after its stage, see ``policies``."""

    arch: ArchConfig
    records: dict[str, dict[str, Any]]
    success: dict[str, dict[str, dict[str, float]]]

    @property
    def metrics(self) -> Metrics:
        return {name: record["metrics"] for name, record in self.records.items()}


def measure(root: Path, scale: float, port: int) -> Measured:
    arch = searched_winner(root / "searched_winner.json", port)
    recipe = full(arch, RecipeOptions(scale=scale))
    records = run_here(recipe, root, "recipe_full", console.print)
    return Measured(arch, records, policies(stage_folders(recipe, root), scale))


def judge(measured: Measured) -> dict[str, Any]:
    metrics = measured.metrics
    checks = {**improvements(metrics), **alignment(metrics, measured.success)}
    return {
        "minutes": round(sum(record["seconds"] for record in measured.records.values()) / 60, 2),
        "minutes_bar": MINUTES_BAR,
        "every_stage_improves_its_target": all(check["improved"] for check in checks.values()), "targets": checks,
        "doom_loops": {name.removeprefix("evaluate_"): round(found["doom_loops/greedy"]["value"], 4)
                       for name, found in metrics.items() if "doom_loops/greedy" in found},
    }  # fmt: skip


def policies(folders: dict[str, Path], scale: float) -> dict[str, dict[str, dict[str, float]]]:
    """Specialist -> success on test questions of its curriculum, sampled as rollouts are and greedily."""
    play = settings(scale).sampling.play
    found = {}
    for name, (before, tasks) in SPECIALISTS.items():
        ways = {"sampled": play, "greedy": replace(play, temperature=0.0)}
        found[name] = {
            kind: {when: _success(folders[stage], tasks, how) for when, stage in (("before", before), ("after", name))}
            for kind, how in ways.items()
        }
    return found


def _success(folder: Path, tasks: tuple[str, ...], how: RolloutConfig) -> float:

    model, tokenizer = on_device(ModelDir(folder).load()), ModelDir(folder).tokenizer()
    scores = [share_solved(model, tokenizer, task_named(task), "test", COUNT, how) for task in tasks]
    return round(sum(scores) / len(scores), 4)


def alignment(metrics: Metrics, success: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, Any]]:
    loops = {name: metrics[f"evaluate_{name}"]["doom_loops/greedy"]["value"] for name in ("merge_2", "preference")}
    bits = metrics["qat"]["held_out_bits_per_byte"]
    closed = (bits["ptq"] - bits["qat"]) / (bits["ptq"] - bits["fp32"])
    merged, lacking = metrics["merge_rl"], tuple(metrics["rl_reasoning"]["needs_cold_start"])
    return {
        "preference": _target("greedy doom-loop ratio", loops["merge_2"], loops["preference"],
                              loops["preference"] < loops["merge_2"]),
        "sft_agent": _rises(metrics, "mean of the agent tasks", AGENTS, "preference", "sft_agent"),
        "rl_tools": _reinforced(success["rl_tools"], POINTS_BAR),
        "rl_reasoning": _reinforced(success["rl_reasoning"], 0.0),
        "sft_cold": _rises(metrics, f"mean of {', '.join(lacking)}", lacking, "rl_reasoning", "sft_cold"),
        "merge_rl": _target("mean of all tasks on validation, against the line before", merged["base"],
                            merged["score"], merged["score"] >= merged["base"]),
        "qat": {**_target("share of the gap of quantization that is closed, bits per byte", 0.0, closed,
                          closed >= GAP_BAR), "bar": GAP_BAR, "bits_per_byte": bits},
    }  # fmt: skip


def _reinforced(found: dict[str, dict[str, float]], bar: float) -> dict[str, Any]:
    before, after = found["sampled"]["before"], found["sampled"]["after"]
    target = "success of the policy on its curriculum's test questions, sampled as rollouts are"
    return {**_target(target, before, after, after > before and after - before >= bar), "bar": bar,
            "greedy": found["greedy"]}  # fmt: skip


def _rises(metrics: Metrics, target: str, tasks: tuple[str, ...], before: str, after: str) -> dict[str, Any]:
    means = [_mean(metrics[f"evaluate_{name}"], tasks) for name in (before, after)]
    return _target(target, *means, means[1] > means[0])


def _mean(found: dict[str, Any], tasks: tuple[str, ...]) -> float:
    return float(sum(found[f"task/{task}"]["value"] for task in tasks) / len(tasks))


def _target(target: str, before: float, after: float, improved: bool) -> dict[str, Any]:
    return {"target": target, "before": round(before, 4), "after": round(after, 4), "improved": improved}


if __name__ == "__main__":
    main()
