"""A measurement row: raw samples, robust estimates with intervals, environment, and one typed verdict."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator

from contracts.metrics import MetricKey
from contracts.values import MAX_VALUE, Count, FreeJson, Plausible, Sentence, clean_json
from foundation.errors import InvalidConfig


class Verdict(StrEnum):
    """Only VALID rows reach the sampler. docs/metrics.md explains each verdict."""

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
    UNLIKE_TWIN = "unlike_twin"  # set by the coordinator: the canary differs from that of its peers


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
    median: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    unit: str = Field(max_length=40)
    num_samples: Count
    raw: FiniteFloat | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Estimate:
        if not self.low <= self.median <= self.high:
            raise ValueError(f"the interval {self.low:g} to {self.high:g} does not contain its median {self.median:g}")
        return self

    @property
    def half_width(self) -> float:
        """Half the interval over the median."""
        return (self.high - self.low) / 2 / self.median if self.median else 0.0


class Measurement(BaseModel):
    """One plan measured on one device. ``events`` are the runner's lines of every cold repeat, as they came.

    The data is untrusted: keys that are not device metrics are kept in ``unknown_metrics`` and have no effect.
    """

    model_config = ConfigDict(frozen=True)
    plan_digest: str = Field(max_length=64)
    protocol: str = Field(max_length=40)
    verdict: Verdict
    reason: Sentence = ""
    metrics: dict[str, Estimate] = {}
    beside: dict[str, Estimate] = {}  # the other form of the same candidate, alternated with it in the same session
    unknown_metrics: FreeJson = {}  # keys that this version does not know, and rates without a bound, as received
    block_ms: dict[str, dict[str, FiniteFloat]] = {}  # phase -> step name -> median ms
    outside_xnnpack: dict[str, FiniteFloat] = {}  # phase -> share of its time spent in our own operators
    canary: dict[str, FiniteFloat] = Field(default={}, max_length=16)  # reference_ms, median_ms, drift
    environment: FreeJson = {}
    events: list[list[dict[str, Any]]] = []
    cold_repeats: Count = 1
    wall_s: Plausible = 0.0
    forward_s: Plausible = 0.0  # time inside measured, non-warm-up forward passes

    @model_validator(mode="before")
    @classmethod
    def _unknown_aside(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        aside = dict(data.get("unknown_metrics") or {}) if isinstance(data.get("unknown_metrics"), dict) else {}
        for field in ("metrics", "beside"):
            given = data.get(field)
            if isinstance(given, dict) and (unknown := [key for key in given if not _is_measured(key, given[key])]):
                data[field] = {key: value for key, value in given.items() if key not in unknown}
                aside |= {str(key): _plain(given[key]) for key in unknown}
        return data | {"unknown_metrics": aside} if aside else data

    @field_validator("metrics", "beside")
    @classmethod
    def _plausible(cls, estimates: dict[str, Estimate]) -> dict[str, Estimate]:
        return require_plausible(estimates)

    @field_validator("events", mode="before")
    @classmethod
    def _storable(cls, events: Any) -> Any:
        return clean_json(events, depth=8) if isinstance(events, list) else events


def require_plausible(estimates: dict[str, Estimate]) -> dict[str, Estimate]:
    """Raises ValueError for the first interval that no device can have measured."""
    for key, one in estimates.items():
        if one.low < 0 or one.high > MAX_VALUE:
            raise ValueError(f"no device measures {key} between {one.low:g} and {one.high:g} {one.unit}")
    return estimates


def _is_measured(key: object, given: Any) -> bool:
    """A metric that devices measure, without a target: ``decode_ms@512``. Agents used to write 0 for the upper bound
    of a rate whose time may be zero; such a rate has no upper bound and is not an estimate."""
    try:
        parsed = MetricKey.parse(str(key))
    except InvalidConfig:
        return False
    unbounded = parsed.metric.direction == "max" and isinstance(given, dict) and given.get("high") == 0
    return parsed.metric.source == "device" and not parsed.target and not (unbounded and given.get("median") != 0)


def _plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, BaseModel) else value
