"""A measurement row: raw samples, robust estimates with intervals, environment, and one typed verdict."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict


class Verdict(StrEnum):
    """Only VALID rows reach the sampler. The sentence for each stands in docs/metrics.md."""

    VALID = "valid"
    NOISY = "noisy"  # interval still wider than allowed after the last re-measurement
    DRIFTED = "drifted"  # the canary moved further than allowed between start and end
    THROTTLED = "throttled"
    HOT_START = "hot_start"
    WRONG_CORE = "wrong_core"
    PARITY_FAILED = "parity_failed"
    OUT_OF_MEMORY = "out_of_memory"
    RUNNER_FAILED = "runner_failed"
    DEVICE_LOST = "device_lost"
    LOW_BATTERY = "low_battery"
    WRONG_CLOCK = "wrong_clock"
    UNLIKE_TWIN = "unlike_twin"  # said by the coordinator: the canary differs from that of equal devices


# The machine's fault, not the candidate's: worth another session.
SPOILED = frozenset(
    {
        Verdict.NOISY, Verdict.DRIFTED, Verdict.THROTTLED, Verdict.HOT_START, Verdict.DEVICE_LOST, Verdict.UNLIKE_TWIN,
        Verdict.LOW_BATTERY, Verdict.WRONG_CLOCK,
    }
)  # fmt: skip


class Estimate(BaseModel):
    """Median with a 95 % interval; ``raw`` is the same before canary correction."""

    model_config = ConfigDict(frozen=True)
    median: float
    low: float
    high: float
    unit: str
    num_samples: int
    raw: float | None = None

    @property
    def half_width(self) -> float:
        """Half the interval over the median."""
        return (self.high - self.low) / 2 / self.median if self.median else 0.0


class Measurement(BaseModel):
    """One plan measured on one device. ``events`` are the runner's lines of every cold repeat, as they came."""

    model_config = ConfigDict(frozen=True)
    plan_digest: str
    protocol: str
    verdict: Verdict
    reason: str = ""
    metrics: dict[str, Estimate] = {}
    beside: dict[str, Estimate] = {}  # the other form of the same candidate, measured in turn in the same session
    block_ms: dict[str, dict[str, float]] = {}  # phase -> step name -> median ms
    outside_xnnpack: dict[str, float] = {}  # phase -> share of its time spent in our own operators
    canary: dict[str, float] = {}  # reference_ms, median_ms, drift
    environment: dict[str, Any] = {}
    events: list[list[dict[str, Any]]] = []
    cold_repeats: int = 1
    wall_s: float = 0.0
    forward_s: float = 0.0  # time inside measured, non-warm-up forward passes
