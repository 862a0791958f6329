"""Studies, their progress and their front, as the API shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, WrapValidator

from contracts.measurement import Estimate, Verdict
from contracts.states import StudyState
from contracts.study import MAX_TRIALS, Objective, QualityResult, StudySpec
from contracts.values import FreeJson
from foundation.errors import HilnasError
from nas.judging.executors import check_executor
from nas.quality.contract import check_quality

EXAMPLE = {
    "name": "phone-350m",
    "space": "lfm2_350m_class",
    "quantization": "8da4w",
    "objectives": [
        {"metric": "quality"},
        {"metric": "prefill_ms@512"},
        {"metric": "memory_bytes@4096", "budget": 400_000_000},
    ],
    "max_trials": 100,
    "protocol": "screening",
}


def _sentences(value: Any, handler: ModelWrapValidatorHandler[StudySpec]) -> StudySpec:
    """An unknown metric or estimator, options that an estimator refuses and an executor that is not there raise a
    HilnasError; for the API they are a malformed body."""
    try:
        spec = handler(value)
        check_quality(spec)
        check_executor(spec.quality)
        return spec
    except HilnasError as error:
        raise ValueError(str(error)) from error


SpecBody = Annotated[StudySpec, WrapValidator(_sentences)]


class ExtendBody(BaseModel):
    trials: int = Field(ge=1, le=MAX_TRIALS, description="how many more candidates the study may propose")


class EnqueueBody(BaseModel):
    """A preset by name, or an architecture; ``name`` is shown on plots (default: the preset's)."""

    model_config = ConfigDict(extra="forbid")
    preset: str | None = Field(default=None, max_length=120)
    arch: FreeJson | None = None
    name: str = Field(default="", max_length=120)


class StudySummary(BaseModel):
    """``trials`` and ``jobs`` count by state."""

    id: str
    name: str
    state: StudyState
    reason: str
    max_trials: int
    trials: dict[str, int]
    jobs: dict[str, int]
    created_at: datetime
    finished_at: datetime | None


class TargetView(BaseModel):
    """``devices``: names of those that serve it now. ``num_measured`` counts trials, the other counts are of jobs."""

    name: str
    wanted: str
    devices: list[str]
    num_measured: int
    num_queued: int
    num_running: int
    num_failed: int


class StudyView(StudySummary):
    """``objectives`` and ``budgets`` are those of the study and of all its targets under their full keys. ``notes`` say
    what blocks progress, e.g. a device that is offline. ``hypervolume`` is null until a reference point and a complete
    trial exist."""

    spec: StudySpec
    objectives: list[Objective]
    budgets: dict[str, float]
    targets: list[TargetView]
    reference_point: dict[str, float]
    eta_s: float | None
    front_size: int
    hypervolume: float | None
    last_event_id: int
    notes: list[str]


class FrontMember(BaseModel):
    """``estimates`` per objective: the interval behind the value. ``confirmed``: the same for the one-piece program,
    ``beside``: for the composed chain measured alternately with it, ``confirmed_verdicts`` by device (and target).
    ``final_quality``: of a finalist at a higher fidelity, ``program_quality``: of the one-piece program, where the
    candidate itself is judged."""

    trial_id: str
    number: int
    name: str = ""  # of a known architecture that the study tried
    knee: bool
    values: dict[str, float]
    estimates: dict[str, Estimate]
    confirmed: dict[str, Estimate]
    beside: dict[str, Estimate]
    confirmed_verdicts: dict[str, Verdict]
    final_quality: QualityResult | None = None
    program_quality: QualityResult | None = None
    costs: dict[str, float]
    arch: dict[str, Any]
    arch_digest: str
    artifacts: dict[str, str]


class BrokenBudget(BaseModel):
    """``value`` and ``bound`` in the metric's unit; ``percent`` of the bound that the value is over, or under where
    more is better."""

    key: str
    value: float
    bound: float
    percent: float


class NearestMiss(BaseModel):
    """A candidate that was rejected, and every budget that it is known to break, worst first."""

    trial_id: str
    number: int
    name: str = ""
    layout: str
    arch: dict[str, Any]
    broken: list[BrokenBudget]


class Front(BaseModel):
    """Non-dominated complete trials, best first along the first objective: on all objectives, or on those of
    ``target``. ``nearest_misses``: where no candidate meets the budgets, those that miss them least, nearest first."""

    study_id: str
    target: str | None
    objectives: list[str]
    directions: list[str]
    reference_point: dict[str, float]
    hypervolume: float | None
    members: list[FrontMember]
    nearest_misses: list[NearestMiss] = []
