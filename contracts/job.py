"""Jobs: what an agent or a trainer leases. A lease carries a fencing token; every later call must present it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from contracts.device import DeviceFacts
from contracts.measurement import Measurement
from contracts.plan import Plan
from contracts.states import JobState
from contracts.values import Count, Digest, FreeJson, Identifier, Plausible, Sentence

JobKind = Literal["measure", "train"]


class MeasureJob(BaseModel):
    """Measure ``plan``, after fetching its blocks from the artifact store. ``form`` says what the chain is."""

    model_config = ConfigDict(frozen=True)
    kind: Literal["measure"] = "measure"
    plan: Plan
    beside: Plan | None = None  # measured in turn with ``plan``, so that the two can be compared
    form: Literal["composed", "one_piece", "trained"] = "composed"
    cold_repeats: int = 1
    max_half_width: float = 0.05  # re-measure while an interval is wider than this share of its median
    max_repeats: int = 4
    attempt: int = 0  # raised when the machine, not the candidate, spoiled the previous one

    @property
    def blocks(self) -> list[str]:
        """Digests of everything it runs, each once, in first-use order."""
        return list(dict.fromkeys([*self.plan.blocks, *(self.beside.blocks if self.beside else [])]))


class TrainJob(BaseModel):
    """Train ``arch`` with ``recipe`` and export it back to a measured program; ``budget_bytes`` is the study's memory
    budget, if it has one. ``weights``: a tar of the candidate with the weights that it was judged with, for recipes
    that go on from them."""

    model_config = ConfigDict(frozen=True)
    kind: Literal["train"] = "train"
    arch: dict[str, Any]
    recipe: str = "smoke"
    quantization: str = "8da4w"
    seed: int = 0
    options: dict[str, Any] = {}
    budget_bytes: float | None = None
    weights: Digest | None = None


class JobRecord(BaseModel):
    """A queued, running or ended job as its study sees it. Any device with fingerprint ``pool`` may run it; where that
    is None, only ``device_id``."""

    model_config = ConfigDict(frozen=True)
    id: str
    trial_id: str
    target: str = ""
    pool: str | None = None
    device_id: str | None = None
    form: str = ""
    state: JobState
    error: str = ""
    error_code: str = ""


class TrainResult(BaseModel):
    """The result of a training: losses in nats per token, artifacts by sha256, and the job that measures its program.
    The coordinator takes only the parity check and the vocabulary size from that job; it builds the plan itself."""

    recipe: str = Field(max_length=120)
    steps: int = Field(ge=0, lt=2**63)
    tokens: int = Field(ge=0, lt=2**63)
    seconds: Plausible
    losses: list[FiniteFloat] = Field(max_length=10_000)
    held_out_bits_per_byte: dict[str, FiniteFloat]  # before and after
    checkpoint: Digest  # a tar of the Hugging Face directory
    program: Digest
    program_bytes: int = Field(ge=0, lt=2**63)
    measure: MeasureJob | None = None


class Enrolment(BaseModel):
    """Sent once by an agent, with a single-use token. The agent may serve what the token allows."""

    token: str = Field(max_length=200)
    facts: DeviceFacts
    serves: list[JobKind] = Field(default=["measure"], min_length=1, max_length=8)


class Credential(BaseModel):
    agent_id: str
    device_id: str
    secret: str


class LeaseRequest(BaseModel):
    wait_s: FiniteFloat = 20.0


class Upcoming(BaseModel):
    """Digests of the blocks that the next jobs of a device need."""

    blocks: list[Digest]


class Lease(BaseModel):
    """``fencing_token`` grows with every lease of a job: results under an older one are kept but change nothing."""

    job_id: Identifier
    fencing_token: int
    expires_at: datetime
    heartbeat_s: float
    job: MeasureJob | TrainJob


class Heartbeat(BaseModel):
    fencing_token: Count
    progress: FiniteFloat | None = None
    message: Sentence = ""
    details: FreeJson = {}


class HeartbeatReply(BaseModel):
    """``cancel``: stop this job, its study was stopped. ``drain``: finish it, then take no more jobs."""

    expires_at: datetime
    cancel: bool = False
    drain: bool = False


class JobResult(BaseModel):
    """Exactly one of ``measurement``, ``training`` and ``error`` is present."""

    fencing_token: Count
    measurement: Measurement | None = None
    training: TrainResult | None = None
    error: Sentence | None = None
    error_code: str | None = Field(default=None, max_length=60)
    retry: bool = False  # the device, not the candidate, is at fault: put it back in the queue


class JobReply(BaseModel):
    accepted: bool
    reason: str = ""  # stale_token, already_done
