"""What a training run reports: its stages, their progress, curves. Sending the same report again changes nothing."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from contracts.values import Count, FreeJson, Sentence

StageState = Literal["open", "running", "done", "failed"]
RunState = Literal["running", "stopped", "failed", "finished"]
MAX_LINES = 500  # of a curve in one report


class StageProgress(BaseModel):
    """``start`` is the stage whose model it continues from or reads; ``seconds`` is the time taken, ``eta_s`` the
    estimated time left."""

    model_config = ConfigDict(extra="ignore")
    name: str = Field(max_length=80)
    kind: str = Field(default="", max_length=40)
    start: str = Field(default="", max_length=80)
    state: StageState = "open"
    share: FiniteFloat | None = None
    seconds: FiniteFloat | None = None
    eta_s: FiniteFloat | None = None
    message: Sentence = ""
    metrics: FreeJson = {}


class CurveLine(BaseModel):
    """One step of a stage; (stage, step) is unique in a run, and a later line replaces an earlier one."""

    stage: str = Field(max_length=80)
    step: Count
    values: dict[str, FiniteFloat] = Field(max_length=16)


class TrainingProgress(BaseModel):
    """``fencing_token`` is that of the lease when the run belongs to a job; ``state`` is read only when it does not."""

    fencing_token: Count | None = None
    state: RunState = "running"
    share: FiniteFloat | None = Field(default=None, ge=0, le=1)
    message: Sentence = ""
    stages: list[StageProgress] = Field(default=[], max_length=100)
    curve: list[CurveLine] = Field(default=[], max_length=MAX_LINES)


class TrainingReply(BaseModel):
    """``stop``: the user wants this run to end."""

    stop: bool = False
