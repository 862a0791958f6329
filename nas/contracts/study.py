"""A study as the user asks for it, and the records of its trials as the store keeps them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nas.contracts.measurement import Measurement
from nas.contracts.metrics import parse_metric
from nas.contracts.plan import PROTOCOLS, CacheDtype
from nas.contracts.states import StudyState, TrialState

Quantization = Literal["8da4w", "8da8w", "fp32"]
SamplerName = Literal["gp", "nsga2", "nsga3", "tpe", "random"]


class Objective(BaseModel):
    """One axis of the front. ``budget`` (in the metric's unit) makes worse candidates infeasible."""

    model_config = ConfigDict(frozen=True)
    metric: str
    direction: Literal["min", "max"] | None = None  # default: the metric's own
    budget: float | None = None
    reference: float | None = None  # this axis of the hypervolume's reference point

    @model_validator(mode="after")
    def _known(self) -> Objective:
        metric, _ = parse_metric(self.metric)
        if self.direction is None:
            object.__setattr__(self, "direction", metric.direction)
        if self.budget is not None and self.budget <= 0:
            raise ValueError(f"the budget of {self.metric} must be above 0 {metric.unit}, got {self.budget:g}")
        return self


class QualitySpec(BaseModel):
    """How quality is estimated. ``steps`` and ``width`` size the twin that is trained on mechanistic tasks."""

    model_config = ConfigDict(frozen=True)
    estimator: str = "mechanistic"
    tasks: list[str] = []  # empty: the estimator's default suite
    steps: int = Field(default=200, ge=1)
    width: int = Field(default=64, ge=16)
    seeds: int = Field(default=1, ge=1)


class StudySpec(BaseModel):
    """What POST /api/v1/studies takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(min_length=1, max_length=120)
    space: str = "debug_space"
    space_options: dict[str, Any] = {}
    quantization: Quantization = "8da4w"
    cache_dtype: CacheDtype = "fp32"
    objectives: list[Objective] = Field(min_length=1, max_length=6)
    budgets: dict[str, float] = {}  # budgets on metrics that are not objectives
    sampler: SamplerName = "gp"
    seed: int = 0
    max_trials: int = Field(default=24, ge=1, le=100_000)
    max_quality: int | None = None  # at most this many are judged; None: as many as deserve it
    protocol: str = "screening"
    threads: int = Field(default=2, ge=1, le=256)
    quality: QualitySpec = QualitySpec()
    devices: list[str] = []  # device ids; empty: any enrolled device that serves measurements
    queue_ahead: int = Field(default=2, ge=1)  # proposals prepared while devices measure
    confirm: int = Field(default=1, ge=0)  # front members re-measured as one-piece files at the end, knee first

    @field_validator("budgets")
    @classmethod
    def _budgets(cls, budgets: dict[str, float]) -> dict[str, float]:
        for key, value in budgets.items():
            metric, _ = parse_metric(key)
            if value <= 0:
                raise ValueError(f"the budget of {key} must be above 0 {metric.unit}, got {value:g}")
        return budgets

    @field_validator("protocol")
    @classmethod
    def _protocol(cls, name: str) -> str:
        if name not in PROTOCOLS:
            raise ValueError(f"unknown protocol {name!r}; known: {', '.join(PROTOCOLS)}")
        return name


class QualityResult(BaseModel):
    """``score`` is the mean over tasks and seeds; low/high its interval; ``tasks`` the parts."""

    model_config = ConfigDict(frozen=True)
    estimator: str
    score: float
    low: float
    high: float
    tasks: dict[str, float] = {}
    seeds: list[int] = []
    seconds: float = 0.0
    details: dict[str, Any] = {}


class TrialRecord(BaseModel):
    """One candidate of one study, as stored."""

    id: str
    study_id: str
    number: int
    state: TrialState
    reason: str = ""
    assignment: dict[str, Any]
    arch: dict[str, Any]
    arch_digest: str
    costs: dict[str, float] = {}  # closed-form metrics
    blocks: list[str] = []  # digests, in chain order
    measurements: dict[str, Measurement] = {}  # device id -> the valid (else latest) composed row
    confirmed: dict[str, Measurement] = {}  # device id -> the one-piece row
    trained: dict[str, Measurement] = {}  # device id -> the row of the trained program
    quality: QualityResult | None = None
    values: dict[str, float] = {}  # objective metric -> value
    artifacts: dict[str, str] = {}  # role (one_piece, onnx, checkpoint) -> sha256
    created_at: datetime | None = None
    updated_at: datetime | None = None


class StudyRecord(BaseModel):
    id: str
    spec: StudySpec
    state: StudyState
    reason: str = ""
    reference_point: dict[str, float] = {}
    created_at: datetime | None = None
    finished_at: datetime | None = None
