"""Whether a measured program keeps to a memory budget; over it the result is written all the same and says so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from contracts.study import memory_budget
from foundation.errors import InvalidConfig

PEAK, CLOSED_FORM = "peak_rss_bytes", "memory_bytes"


def of_study(budgets: Mapping[str, float]) -> float:
    """The study's memory budget. Raises InvalidConfig where it has none."""
    bound = memory_budget(budgets)
    if bound is None:
        raise InvalidConfig(f"the study has no budget of {PEAK} or {CLOSED_FORM}; --budget-mb gives one")
    return bound


def judged(device: dict[str, Any], budget_bytes: float) -> dict[str, Any]:
    """{budget_bytes, met} and the peak of the cold runs; ``met`` is None when no memory was measured."""
    peak = device["metrics"].get(PEAK)
    if peak is None:
        return {"budget_bytes": budget_bytes, "met": None}
    seen = {key: peak[key] for key in ("value", "low", "high", "n")}
    return {"budget_bytes": budget_bytes, "met": peak["high"] <= budget_bytes, PEAK: seen}


def budget_met(devices: Iterable[dict[str, Any]]) -> bool:
    """On every target; what was not measured is not met."""
    return all(device["budget"]["met"] is True for device in devices)


def sentence(budget: dict[str, Any]) -> str:
    """One sentence for the card."""
    allowed = f"the budget of {budget['budget_bytes']:,.0f} bytes"
    if budget["met"] is None:
        return f"Peak memory was not measured; whether it keeps to {allowed} is not known."
    verb = "keeps to" if budget["met"] else "is over"
    return f"Peak memory of {budget[PEAK]['value']:,.0f} bytes {verb} {allowed}."
