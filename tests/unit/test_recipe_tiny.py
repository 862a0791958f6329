"""How a run is judged: what is before and after for each stage, on figures made up for it."""

from __future__ import annotations

from typing import Any

from trainer.recipes.improvements import improvements, main_figures
from trainer.recipes.tiny import TASKS

EVALUATED = ("pretrain", "extend", "stretch", "sft", "sft_reasoning", "sft_tools", "merge", "sft_reasoning_2",
             "sft_tools_2", "merge_2")  # fmt: skip
SPANS = ("0-255", "256-511", "512-1023", "1024-2047", "2048-4095", "4096-8191")


def metrics(**scores: float) -> dict[str, dict[str, Any]]:
    """A run in which every stage is a little better than the one before it."""
    found: dict[str, dict[str, Any]] = {"pretrain": {"held_out_bits_per_byte": {"before": 3.0, "after": 2.0}}}
    for index, stage in enumerate(EVALUATED):
        score = scores.get(stage, index / 10)
        losses = {f"loss_by_position/{span}": {"value": 5.0 - index / 10} for span in SPANS}
        found[f"evaluate_{stage}"] = {
            **{f"task/{task}": {"value": score} for task in TASKS}, **losses, "bits_per_byte": {"value": 2.0},
        }  # fmt: skip
    return found


def test_a_run_that_improves_everywhere() -> None:
    checks = improvements(metrics())
    assert set(checks) == {"pretrain", "extend", "stretch", "sft", "sft_reasoning", "sft_tools", "merge", "merge_2"}
    assert all(check["improved"] for check in checks.values())
    assert checks["extend"]["before"] == 5.0 and checks["extend"]["after"] == 4.9


def test_a_merge_below_its_best_specialist_is_no_improvement() -> None:
    checks = improvements(metrics(merge=0.45, sft_tools=0.5))
    assert not checks["merge"]["improved"] and checks["merge_2"]["improved"]
    assert improvements(metrics(merge=0.5, sft_tools=0.5))["merge"]["improved"], "equal is at least"
    assert not improvements(metrics(sft=0.2, stretch=0.2))["sft"]["improved"], "fine-tuning must raise"


def test_the_table_shows_figures_of_evaluations() -> None:
    assert main_figures(metrics()["evaluate_sft"]) == "bits_per_byte 2.0, tasks 0.3"
    assert main_figures({"a": 1, "nested": {"b": 2}}) == "a 1"
