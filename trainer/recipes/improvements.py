"""Whether each stage of a run improved what it is for. ``metrics`` are those of the run's stages by name."""

from __future__ import annotations

from typing import Any

from trainer.recipes.tiny import CONTEXT, REASONING, TASKS, TOOLS

Metrics = dict[str, dict[str, Any]]
Check = dict[str, Any]


def improvements(metrics: Metrics) -> dict[str, Check]:
    """Stage -> its target before and after, and whether that is better."""
    scores = {stage.removeprefix("evaluate_"): task_means(rows) for stage, rows in metrics.items()
              if stage.startswith("evaluate_")}  # fmt: skip
    bits = metrics["pretrain"]["held_out_bits_per_byte"]
    return {
        "pretrain": _falls("held-out bits per byte", bits["before"], bits["after"]),
        "extend": _falls("nats per token from position 256 to 2,047", *_beyond(metrics, "pretrain", "extend", CONTEXT)),
        "stretch": _falls(
            "nats per token from position 2,048 to 8,191", *_beyond(metrics, "extend", "stretch", 8 * CONTEXT)
        ),
        "sft": _rises("mean of all tasks", scores["stretch"]["all"], scores["sft"]["all"]),
        "sft_reasoning": _rises(
            "mean of the reasoning tasks", scores["sft"]["reasoning"], scores["sft_reasoning"]["reasoning"]
        ),
        "sft_tools": _rises("mean of the tool tasks", scores["sft"]["tools"], scores["sft_tools"]["tools"]),
        "merge": _merged(scores, ""),
        "merge_2": _merged(scores, "_2"),
    }  # fmt: skip


def _merged(scores: dict[str, dict[str, float]], suffix: str) -> dict[str, Any]:
    best = max(scores[f"sft_{name}{suffix}"]["all"] for name in ("reasoning", "tools"))
    return _rises("mean of all tasks, against the best specialist", best, scores[f"merge{suffix}"]["all"], equal=True)


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


def _falls(target: str, before: float, after: float) -> dict[str, Any]:
    return {"target": target, "before": round(before, 4), "after": round(after, 4), "improved": after < before}


def _rises(target: str, before: float, after: float, equal: bool = False) -> dict[str, Any]:
    better = after >= before if equal else after > before
    return {"target": target, "before": round(before, 4), "after": round(after, 4), "improved": better}


def main_figures(metrics: dict[str, Any]) -> str:
    """The few figures of a stage that fit a table."""
    plain = {key: value for key, value in metrics.items() if isinstance(value, (int, float, str))}
    if f"task/{TASKS[0]}" in metrics:
        plain |= {"bits_per_byte": metrics["bits_per_byte"]["value"], "tasks": round(task_means(metrics)["all"], 4)}
    return ", ".join(f"{key} {value}" for key, value in list(plain.items())[:5])
