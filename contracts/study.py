"""A study as the user requests it, and the records of its trials as they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    PlainSerializer,
    PlainValidator,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    field_validator,
    model_serializer,
    model_validator,
)

from contracts.device import DEFAULT_THREADS, DeviceKind, describe_kind
from contracts.measurement import Measurement, Verdict
from contracts.metrics import METRICS, TARGET_NAME, MetricKey
from contracts.plan import DEFAULT_BACKEND, PROTOCOLS, CacheDtype
from contracts.states import StudyState, TrialState
from contracts.values import Count, FreeJson, Identifier, whole_json
from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig

Quantization = Literal["8da4w", "8da8w", "fp32"]
SpaceName = Annotated[str, Field(max_length=120)]
Core = Annotated[int, Field(ge=0, lt=1024)]
MAX_TRIALS = 100_000
MAX_OBJECTIVES = 8  # the exact hypervolume of more takes too long to follow a search


def _canonical_budgets(budgets: dict[str, float]) -> dict[str, float]:
    """Keys as ``MetricKey.text`` writes them. Raises ValueError for a bound that no candidate could meet, or for two of
    one metric."""
    found: dict[str, float] = {}
    for key, bound in budgets.items():
        parsed = MetricKey.parse(key)
        _require_bound(parsed, bound)
        if parsed.text in found:
            raise ValueError(f"{parsed.text} has two budgets; give one")
        found[parsed.text] = bound
    return found


def _require_bound(key: MetricKey, bound: float) -> None:
    """Costs and measurements are above 0; a score may be any number."""
    metric = key.metric
    if bound <= 0 and not (metric.source == "quality" and metric.direction == "max"):
        raise ValueError(f"the budget of {key.text} must be above 0 {metric.unit}, got {bound:g}")


Budgets = Annotated[dict[str, FiniteFloat], Field(max_length=32), AfterValidator(_canonical_budgets)]


class Objective(BaseModel):
    """One axis of the front. ``budget`` (in the metric's unit) makes worse candidates infeasible."""

    model_config = ConfigDict(frozen=True)
    metric: str = Field(max_length=120)
    direction: Literal["min", "max"] | None = None  # default: the metric's own
    budget: FiniteFloat | None = None
    reference: FiniteFloat | None = None  # this axis of the hypervolume's reference point

    @model_validator(mode="after")
    def _known(self) -> Objective:
        parsed = MetricKey.parse(self.metric)
        object.__setattr__(self, "metric", parsed.text)
        if self.direction is None:
            object.__setattr__(self, "direction", parsed.metric.direction)
        if self.budget is not None:
            _require_bound(parsed, self.budget)
        return self


EARLIER_QUALITY_OPTIONS: dict[str, Any] = {"tasks": [], "steps": 200, "width": 64, "seeds": 1}


class Finalists(BaseModel):
    """The ``count`` most promising candidates are judged again with ``options`` instead of the study's, before any is
    confirmed."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    count: int = Field(default=4, ge=1, le=100)
    options: FreeJson = {}


class QualitySpec(BaseModel):
    """How quality is estimated. ``options`` are those of the estimator, which checks them when a study is created.

    ``executor``: worker processes of the coordinator's machine, or tasks of a Ray cluster; ``at_once`` of them judge
    side by side. ``num_gpus`` is the share of a GPU that a Ray task takes where the cluster has any (None: a quarter).

    Bodies that give ``tasks``, ``steps``, ``width`` or ``seeds`` beside ``estimator`` are read as if they stood in
    ``options``; defaults that older versions stored there are left to the estimator.
    """

    model_config = ConfigDict(frozen=True)
    estimator: str = Field(default="mechanistic", max_length=120)
    options: FreeJson = {}
    executor: Literal["local", "ray"] = "local"
    at_once: int = Field(default=2, ge=1, le=64)
    num_gpus: FiniteFloat | None = Field(default=None, ge=0, le=16)
    finalists: Finalists | None = None

    @property
    def final(self) -> QualitySpec:
        """How finalists are judged: the same estimator with their options."""
        changed = self.finalists.options if self.finalists else {}
        return self.model_copy(update={"options": {**self.options, **changed}, "finalists": None})

    @model_validator(mode="before")
    @classmethod
    def _earlier_form(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not given.keys() & EARLIER_QUALITY_OPTIONS.keys():
            return given
        moved = {k: v for k, v in given.items() if k in EARLIER_QUALITY_OPTIONS and v != EARLIER_QUALITY_OPTIONS[k]}
        kept = {key: value for key, value in given.items() if key not in EARLIER_QUALITY_OPTIONS}
        return {**kept, "options": {**moved, **(kept.get("options") or {})}}

    @model_validator(mode="after")
    def _gpus_of_ray(self) -> QualitySpec:
        if self.num_gpus is not None and self.executor != "ray":
            raise ValueError(f"num_gpus is for the executor ray, got executor {self.executor}: leave it out")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out where it is judged, and finalists, unless the study says so, as in specifications stored before
        there were any."""
        stored: dict[str, Any] = handler(self)
        later = ("executor", "at_once", "num_gpus", "finalists")
        defaults = {name: QualitySpec.model_fields[name].default for name in later}
        return {key: value for key, value in stored.items() if key not in defaults or value != defaults[key]}


class Target(BaseModel):
    """Where candidates will run: one device (its id or name), every device of a model, or of a kind.

    Devices with equal fingerprints are one group: they share its jobs, and one valid row from any of them counts for
    all. A target that matches several fingerprints has a group for each; each must be measured, the worst counts.
    ``objectives`` and ``budgets`` are device metrics without the target's name: ``decode_ms@512`` here is
    ``decode_ms@512:<name>`` in the study. ``threads``, ``affinity`` and ``backend`` replace the study's on this target.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    device: str | None = Field(default=None, max_length=200)
    model: str | None = Field(default=None, max_length=2000)
    kind: DeviceKind | None = None
    threads: int | None = Field(default=None, ge=1, le=256)
    affinity: list[Core] | None = Field(default=None, max_length=256)
    backend: str | None = Field(default=None, max_length=120)
    objectives: list[Objective] = Field(default=[], max_length=6)
    budgets: Budgets = {}

    @model_validator(mode="after")
    def _sound(self) -> Target:
        if not TARGET_NAME.fullmatch(self.name):
            raise ValueError(f"a target's name is a short word like s24 (a-z, 0-9, - and _), got {self.name!r}")
        selectors = {"device": self.device, "model": self.model, "kind": self.kind}
        given = [name for name, value in selectors.items() if value]
        if len(given) != 1:
            raise ValueError(
                f"target {self.name} needs exactly one of device, model and kind, got {' and '.join(given) or 'none'}"
            )
        for key in [*(objective.metric for objective in self.objectives), *self.budgets]:
            parsed = MetricKey.parse(key)
            if parsed.metric.source != "device":
                raise ValueError(f"{key} is the same on every device: give it for the study, not for a target")
            if parsed.target:
                raise ValueError(f"inside target {self.name} write {parsed.base}, got {key!r}")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out an absent backend, as in targets that were stored before backends existed."""
        stored: dict[str, Any] = handler(self)
        if self.backend is None:
            stored.pop("backend", None)
        return stored

    @property
    def description(self) -> str:
        """What it selects, for messages."""
        if self.device:
            return f"device {self.device}"
        if self.model:
            return f"a device of model {self.model}"
        return describe_kind(str(self.kind))


class StudySpec(BaseModel):
    """The body of POST /api/v1/studies. ``devices`` (each measures every candidate) and ``targets`` exclude each other;
    with neither, every enrolled device that measures is a target, and equal devices share the work."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(min_length=1, max_length=120)
    space: SpaceName | dict[str, Any] = "debug_space"  # a name, or a space as data (docs/spaces.md)
    space_options: FreeJson = {}
    quantization: Quantization = "8da4w"
    cache_dtype: CacheDtype = "fp32"
    backend: str = Field(default=DEFAULT_BACKEND, max_length=120)
    objectives: list[Objective] = Field(max_length=6)  # may be empty when targets have their own
    budgets: Budgets = {}  # budgets on metrics that are not objectives
    sampler: str = Field(default="surrogate", max_length=120)
    seed: Count = 0
    max_trials: int = Field(default=24, ge=1, le=MAX_TRIALS)
    max_quality: Count | None = None  # most candidates to judge; None: all that may reach the front
    protocol: str = "screening"
    precision: FiniteFloat | None = Field(default=None, gt=0)  # widest valid half width over median; None: protocol's
    threads: int = Field(default=DEFAULT_THREADS, ge=1, le=256)
    quality: QualitySpec = QualitySpec()
    devices: list[str] = Field(default=[], max_length=256)  # ids; empty: any enrolled device that serves measurements
    targets: list[Target] = Field(default=[], max_length=8)
    queue_ahead: int = Field(default=2, ge=1, le=1000)  # proposals prepared while devices measure
    unjudged_ahead: int = Field(default=6, ge=1, le=1000)  # measured candidates that wait for their quality
    patience: int | None = Field(default=None, ge=1, le=100_000)  # complete candidates without a gain of the front
    start_with: list[str] | None = Field(default=None, max_length=100)  # presets tried first; None: all of the space
    warm_start: list[Identifier] = Field(default=[], max_length=16)  # ids of studies of the same space to learn from
    confirm: int = Field(default=1, ge=0, le=1000)  # front members re-measured as one-piece files, knee first

    @field_validator("space", mode="before")
    @classmethod
    def _space(cls, space: Any) -> Any:
        return whole_json(space)

    @field_validator("protocol")
    @classmethod
    def _protocol(cls, name: str) -> str:
        if name not in PROTOCOLS:
            raise ValueError(f"unknown protocol {name!r}; known: {', '.join(PROTOCOLS)}")
        return name

    @model_validator(mode="after")
    def _sound(self) -> StudySpec:
        if not self.all_objectives:
            raise ValueError("a study needs at least one objective, e.g. quality")
        for key in [*(objective.metric for objective in self.objectives), *self.budgets]:
            self._check_target(key)
        if self.targets:
            self._check_targets()
        _require_different("objective", [objective.metric for objective in self.all_objectives])
        return self

    def _check_target(self, key: str) -> None:
        names = [target.name for target in self.targets]
        name = MetricKey.parse(key).target
        if name and name not in names:
            known = f"known targets: {', '.join(names)}" if names else "this study has no targets"
            raise ValueError(f"unknown target {name!r} in {key}; {known}")

    def _check_targets(self) -> None:
        if self.devices:
            raise ValueError("a study takes targets or devices, not both: give the device as a target")
        _require_different("target", [target.name for target in self.targets])
        if (count := len(self.all_objectives)) > MAX_OBJECTIVES:
            raise ValueError(f"at most {MAX_OBJECTIVES} objectives, those of targets included, got {count}")

    @property
    def all_objectives(self) -> list[Objective]:
        """Those of the study, then each target's under its full key: the axes of the joint front."""
        own = [
            objective.model_copy(update={"metric": f"{objective.metric}:{target.name}"})
            for target in self.targets
            for objective in target.objectives
        ]
        return [*self.objectives, *own]

    @property
    def all_budgets(self) -> dict[str, float]:
        """Metric key -> bound, from objectives, extra budgets and targets."""
        bounds = {one.metric: one.budget for one in self.all_objectives if one.budget is not None}
        bounds |= self.budgets
        for target in self.targets:
            bounds |= {f"{key}:{target.name}": bound for key, bound in target.budgets.items()}
        return bounds

    def direction_of(self, key: str) -> str:
        """Which way is better: an objective's own direction, else the metric's."""
        chosen = next((one.direction for one in self.all_objectives if one.metric == key), None)
        return chosen or MetricKey.parse(key).metric.direction

    def backend_of(self, target: str = "") -> str:
        """The backend that programs are compiled for on this target; without targets, the study's own."""
        return (self.target(target).backend if target else None) or self.backend

    @property
    def backends(self) -> list[str]:
        """All backends of the study, each once; without targets, only its own."""
        return list(dict.fromkeys(self.backend_of(target.name) for target in self.targets)) or [self.backend]

    def target(self, name: str) -> Target:
        """Raises InvalidConfig with the known targets."""
        for target in self.targets:
            if target.name == name:
                return target
        known = ", ".join(target.name for target in self.targets) or "none in this study"
        raise InvalidConfig(f"unknown target {name!r}; known targets: {known}")


def _require_different(what: str, given: list[str]) -> None:
    twice = [one for one in given if given.count(one) > 1]
    if twice:
        raise ValueError(f"{what} {twice[0]} is given twice; give it once")


class QualityResult(BaseModel):
    """``score`` in the unit and direction of ``metric``, with its interval; ``tasks`` are its parts. ``fidelity``: how
    much went into it, in words; ``seconds``: what it cost. Results stored before metrics existed are of ``quality``."""

    model_config = ConfigDict(frozen=True)
    estimator: str
    metric: str = "quality"
    score: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    tasks: dict[str, FiniteFloat] = {}
    seeds: list[int] = []
    fidelity: str = ""
    seconds: FiniteFloat = 0.0
    details: FreeJson = {}

    @model_validator(mode="after")
    def _sound(self) -> QualityResult:
        metric = METRICS.get(self.metric)
        if metric is None or metric.source != "quality":
            known = ", ".join(name for name, one in METRICS.items() if one.source == "quality")
            raise ValueError(f"{self.metric!r} is no metric of quality; known: {known}")
        if not self.low <= self.score <= self.high:
            raise ValueError(f"the score {self.score:g} lies outside its interval {self.low:g} to {self.high:g}")
        return self


class StoredMeasurement(Measurement):
    """A row as a trial keeps it, with its device and target. ``agent_verdict``: the agent's own verdict where the
    coordinator changed it."""

    device_id: str = ""
    fingerprint: str = ""
    target: str = ""  # empty in a study without targets
    agent_verdict: Verdict | None = None
    measured_at: datetime | None = None

    @property
    def key(self) -> str:
        return f"{self.target}:{self.device_id}" if self.target else self.device_id


def _read_arch(value: Any) -> ArchConfig:
    try:
        return value if isinstance(value, ArchConfig) else ArchConfig.from_dict(value)
    except (TypeError, AttributeError) as error:  # not even the right shape
        raise InvalidConfig(f"not an architecture: {error}") from error


Arch = Annotated[
    ArchConfig,
    PlainValidator(_read_arch),
    PlainSerializer(lambda arch: arch.to_dict(), return_type=dict[str, Any]),
    WithJsonSchema({"type": "object"}),
]


class TrialFacts(BaseModel):
    """A trial without its architecture: enough for fronts, samplers and pages. Rows are keyed by device id, or
    ``target:device id`` in a study with targets: per device and target the latest valid row, else the latest."""

    id: str
    study_id: str
    number: int
    state: TrialState
    reason: str = ""
    assignment: FreeJson
    sampler_attrs: FreeJson = {}  # what the sampler wrote of its proposal, e.g. its generation
    arch_digest: str
    costs: dict[str, FiniteFloat] = {}  # closed-form metrics
    blocks: list[str] = []  # digests, in chain order
    measurements: dict[str, StoredMeasurement] = {}  # of the chain of blocks
    confirmed: dict[str, StoredMeasurement] = {}  # of the one-piece program
    trained: dict[str, StoredMeasurement] = {}  # of the trained program
    quality: QualityResult | None = None
    final_quality: QualityResult | None = None  # of a finalist, at a higher fidelity
    program_quality: QualityResult | None = None  # of the exported program, where the candidate itself is judged
    values: dict[str, FiniteFloat] = {}  # objective metric -> value
    artifacts: dict[str, str] = {}  # role (one_piece, onnx, checkpoint) -> sha256
    created_at: datetime | None = None
    updated_at: datetime | None = None


class TrialRecord(TrialFacts):
    """One candidate of one study."""

    arch: Arch


class StudyRecord(BaseModel):
    id: str
    spec: StudySpec
    state: StudyState
    reason: str = ""
    reference_point: dict[str, float] = {}
    created_at: datetime | None = None
    finished_at: datetime | None = None


def memory_budget(budgets: Mapping[str, float]) -> float | None:
    """The tightest bound on measured peak memory among (metric key -> bound), else on weights and state (peak memory
    also includes the runtime); None where neither is bounded."""
    for name in ("peak_rss_bytes", "memory_bytes"):
        if bounds := [bound for key, bound in budgets.items() if key.partition(":")[0].partition("@")[0] == name]:
            return min(bounds)
    return None
