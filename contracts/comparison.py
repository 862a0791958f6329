"""A comparison: models measured in turn on one device, as it is kept, published and checked.

Everything that a reader needs to repeat or doubt it is inside: raw samples of all cold runs, device, settings, command.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator

from contracts.device import DeviceFacts
from contracts.measurement import Estimate, Verdict, require_plausible
from contracts.plan import CacheDtype
from contracts.values import Count, FreeJson, Name, Plausible, Sentence

TIMES = ("prefill_ms", "decode_ms")  # metrics that are compared
MAX_ROWS, MAX_ROUNDS, MAX_SAMPLES = 26, 200, 2000
Share = Annotated[FiniteFloat, Field(ge=0, le=1)]
MetricName = Annotated[str, Field(max_length=40)]
Lengths = Annotated[list[Annotated[int, Field(ge=1, le=10**6)]], Field(max_length=32)]
Samples = Annotated[list[Plausible], Field(min_length=1, max_length=MAX_SAMPLES)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class Settings(_Record):
    """What must be equal for rows to share a table. ``affinity`` is None where the system chooses among all cores."""

    threads: Count
    affinity: list[Count] | None = Field(default=None, max_length=1024)
    prompts: Lengths
    contexts: Lengths
    quantization: Sentence
    cache_dtype: CacheDtype = "fp32"
    rounds: Count


class ComparedRow(_Record):
    """One model. ``samples``: metric -> cold run -> milliseconds; entry i of each metric is of round ``rounds[i]``.
    Runs that were set aside (the machine was busy) are in neither. ``session`` names the session it was measured in;
    only rows of one session are compared."""

    name: Name
    engine: Sentence  # hilnas, or llama.cpp with its build
    model: Sentence  # its architecture in one line
    weights: Sentence  # its own, or random ones of its shapes and why
    quantization: Sentence
    params: int | None = Field(default=None, ge=0, lt=2**63)
    weight_bytes: int | None = Field(default=None, ge=0, lt=2**63)
    cache_bytes: int | None = Field(default=None, ge=0, lt=2**63)  # at the largest context
    session: Sentence
    verdict: Verdict
    reason: Sentence = ""
    metrics: dict[MetricName, Estimate] = Field(default={}, max_length=200)
    samples: dict[MetricName, list[Samples]] = Field(default={}, max_length=200)
    rounds: list[Count] = Field(default=[], max_length=MAX_ROUNDS)
    cold_runs: Count = 0
    environment: FreeJson = {}

    @field_validator("metrics")
    @classmethod
    def _plausible(cls, estimates: dict[str, Estimate]) -> dict[str, Estimate]:
        return require_plausible(estimates)

    @model_validator(mode="after")
    def _a_round_for_each_run(self) -> ComparedRow:
        for metric, runs in self.samples.items():
            if len(runs) != len(self.rounds):
                raise ValueError(f"{self.name}: {metric} has {len(runs)} cold runs, but {len(self.rounds)} rounds")
        return self


class Pair(_Record):
    """``probability`` that ``first`` takes less time than ``second``; ``ratio``: time of first over second, with its
    95 % interval, over ``num_rounds`` rounds in which both ran undisturbed."""

    metric: MetricName
    first: Name
    second: Name
    probability: Share
    ratio: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    num_rounds: Count


class Sustained(_Record):
    """Decoding without a pause: medians of the first and the last ``window_s`` seconds, milliseconds a token."""

    name: Name
    metric: MetricName
    seconds: Plausible
    window_s: Plausible
    first_ms: Plausible
    last_ms: Plausible
    num_tokens: Count
    note: Sentence = ""

    @property
    def slowdown(self) -> float:
        return self.last_ms / self.first_ms if self.first_ms else 1.0


class Comparison(_Record):
    """``minutes`` are those of measuring, after compiling; waits for other measurements on the machine count."""

    format: Literal[1] = 1
    title: Name
    command: Sentence
    measured_at: datetime
    minutes: Plausible
    device: DeviceFacts
    settings: Settings
    rows: list[ComparedRow] = Field(min_length=1, max_length=MAX_ROWS)
    pairs: list[Pair] = Field(default=[], max_length=20_000)
    baseline: Name | None = None
    sustained: list[Sustained] = Field(default=[], max_length=MAX_ROWS)

    @model_validator(mode="after")
    def _names_are_rows(self) -> Comparison:
        names = [row.name for row in self.rows]
        if len(set(names)) != len(names):
            raise ValueError(f"every row needs a name of its own, got {', '.join(names)}")
        named = {self.baseline or names[0], *(p.first for p in self.pairs), *(p.second for p in self.pairs)}
        if unknown := sorted((named | {one.name for one in self.sustained}) - set(names)):
            raise ValueError(f"{unknown[0]!r} is not the name of a row; rows: {', '.join(names)}")
        return self

    @property
    def compared_metrics(self) -> list[str]:
        """``prefill_ms@512``, then ``decode_ms@4096``: the metrics of a table, in order."""
        prefill = [f"prefill_ms@{length}" for length in self.settings.prompts]
        return [*prefill, *(f"decode_ms@{context}" for context in self.settings.contexts)]
