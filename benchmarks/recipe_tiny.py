"""The tiny recipe from a searched winner to a merged model: minutes of the whole chain, each stage's metrics, and
whether each stage improved what it is for.

The winner comes from a search of its own in real processes (its minutes are told apart); a stage that an earlier run
finished is taken from there, and its recorded seconds count.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.record import console, publish
from contracts.http import RestClient
from foundation.files import write_atomically
from hilnas.cli.search import watch_study
from hilnas.demo import running, wait_until_up
from search_space.arch import ArchConfig
from trainer.recipes import tiny
from trainer.recipes.tiny import CONTEXT, REASONING, TASKS, TOOLS
from trainer.runs.local import run_here
from trainer.teacher.directory import SMOLLM2

STUDY: dict[str, Any] = {
    "name": "tiny-winner", "space": "debug_space", "space_options": {"vocab_size": 4096},
    "objectives": [{"metric": "quality"}, {"metric": "decode_ms@1024"}, {"metric": "params", "budget": 7e6}],
    "sampler": "nsga2", "protocol": "quick", "max_trials": 12, "max_quality": 6, "confirm": 0,
    "quality": {"steps": 120, "width": 64},
}  # fmt: skip
MINUTES_BAR = 25.0


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--root", type=Path, default=Path("var/train"), help="of runs; stages there are used again")
    options.add_argument("--scale", type=float, default=1.0)
    options.add_argument("--port", type=int, default=8127, help="of the coordinator that searches")
    given = options.parse_args()
    arch = searched(given.root / "searched_winner.json", given.port)
    results = run_here(tiny(arch, SMOLLM2, 1, given.scale), given.root, "recipe_tiny", console.print)
    checks = improvements({name: record["metrics"] for name, record in results.items()})
    rows = [{"stage": name, "seconds": record["seconds"], "figures": told(record["metrics"])}
            for name, record in results.items()]  # fmt: skip
    minutes = sum(record["seconds"] for record in results.values()) / 60
    summary = {
        "minutes": round(minutes, 2), "minutes_bar": MINUTES_BAR, "scale": given.scale, "arch": arch.label,
        "every_stage_improves_its_target": all(check["improved"] for check in checks.values()), "targets": checks,
    }  # fmt: skip
    publish("recipe_tiny", summary, rows, {name: record["metrics"] for name, record in results.items()})


def searched(path: Path, port: int) -> ArchConfig:
    """The knee of a search on this machine, kept in ``path``."""
    if not path.exists():
        with tempfile.TemporaryDirectory() as folder:
            knee = _search(Path(folder), port)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(knee["arch"]))
    return ArchConfig.from_dict(json.loads(path.read_text()))


def _search(var: Path, port: int) -> dict[str, Any]:
    url = f"http://127.0.0.1:{port}"
    with running("coordinator", ["serve", "--port", str(port), "--var", str(var)], var) as coordinator:
        rest = RestClient(url)
        wait_until_up(rest, coordinator, var / "coordinator.log")
        with running("agent", ["agent", "host", "--url", url, "--home", str(var / "agent")], var):
            study = watch_study(rest, str(rest.post("/studies", STUDY)["id"]))
            members = rest.get(f"/studies/{study['id']}/front")["members"]
    return next(dict(member) for member in members if member["knee"])


def improvements(metrics: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Stage -> what it is for, before and after, and whether that is better."""
    scores = {stage.removeprefix("evaluate_"): task_means(rows) for stage, rows in metrics.items()
              if stage.startswith("evaluate_")}  # fmt: skip
    bits = metrics["pretrain"]["held_out_bits_per_byte"]
    return {
        "pretrain": _less("held-out bits per byte", bits["before"], bits["after"]),
        "extend": _less("nats per token from position 256 to 2,047", *_beyond(metrics, "pretrain", "extend", CONTEXT)),
        "stretch": _less(
            "nats per token from position 2,048 to 8,191", *_beyond(metrics, "extend", "stretch", 8 * CONTEXT)
        ),
        "sft": _more("mean of all tasks", scores["stretch"]["all"], scores["sft"]["all"]),
        "sft_reasoning": _more(
            "mean of the reasoning tasks", scores["sft"]["reasoning"], scores["sft_reasoning"]["reasoning"]
        ),
        "sft_tools": _more("mean of the tool tasks", scores["sft"]["tools"], scores["sft_tools"]["tools"]),
        "merge": _merged(scores, ""),
        "merge_2": _merged(scores, "_2"),
    }  # fmt: skip


def _merged(scores: dict[str, dict[str, float]], suffix: str) -> dict[str, Any]:
    best = max(scores[f"sft_{name}{suffix}"]["all"] for name in ("reasoning", "tools"))
    return _more("mean of all tasks, against the best specialist", best, scores[f"merge{suffix}"]["all"], equal=True)


def task_means(metrics: dict[str, Any]) -> dict[str, float]:
    def mean(tasks: tuple[str, ...]) -> float:
        return float(sum(metrics[f"task/{task}"]["value"] for task in tasks) / len(tasks))

    return {"all": mean(TASKS), "reasoning": mean(REASONING), "tools": mean(TOOLS)}


def _beyond(metrics: dict[str, Any], before: str, after: str, position: int) -> tuple[float, float]:
    """Mean loss of the buckets from ``position`` to eight or four times it, weighted by their width."""
    last = 8 * CONTEXT if position == CONTEXT else 32 * CONTEXT
    spans = {key: _span(key) for key in metrics[f"evaluate_{before}"] if key.startswith("loss_by_position/")}
    inside = {key: stop - start + 1 for key, (start, stop) in spans.items() if start >= position and stop < last}
    one, two = (
        sum(metrics[f"evaluate_{stage}"][key]["value"] * width for key, width in inside.items()) / sum(inside.values())
        for stage in (before, after)
    )
    return one, two


def _span(key: str) -> tuple[int, int]:
    first, _, last = key.removeprefix("loss_by_position/").partition("-")
    return int(first), int(last)


def _less(target: str, before: float, after: float) -> dict[str, Any]:
    return {"target": target, "before": round(before, 4), "after": round(after, 4), "improved": after < before}


def _more(target: str, before: float, after: float, equal: bool = False) -> dict[str, Any]:
    better = after >= before if equal else after > before
    return {"target": target, "before": round(before, 4), "after": round(after, 4), "improved": better}


def told(metrics: dict[str, Any]) -> str:
    """The few figures of a stage that fit a table."""
    plain = {key: value for key, value in metrics.items() if isinstance(value, (int, float, str))}
    if f"task/{TASKS[0]}" in metrics:
        plain |= {"bits_per_byte": metrics["bits_per_byte"]["value"], "tasks": round(task_means(metrics)["all"], 4)}
    return ", ".join(f"{key} {value}" for key, value in list(plain.items())[:5])


if __name__ == "__main__":
    main()
