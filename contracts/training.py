"""What a training run tells of itself: stages, how far each is, curves. Sending the same again changes nothing."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from contracts.values import Count, FreeJson, Sentence

StageState = Literal["open", "running", "done", "failed"]
RunState = Literal["running", "stopped", "failed", "finished"]
MAX_LINES = 500  # of a curve in one message


class StageProgress(BaseModel):
    """``start`` is the stage whose model it goes on from or reads; ``seconds`` what it took, ``eta_s`` what it may
    still take."""

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
    """One step of a stage; the pair of them is unique in a run, and what comes later counts."""

    stage: str = Field(max_length=80)
    step: Count
    values: dict[str, FiniteFloat] = Field(max_length=16)


class TrainingProgress(BaseModel):
    """``fencing_token`` is the lease's where a job asked for the run; ``state`` is read only where none did."""

    fencing_token: Count | None = None
    state: RunState = "running"
    share: FiniteFloat | None = Field(default=None, ge=0, le=1)
    message: Sentence = ""
    stages: list[StageProgress] = Field(default=[], max_length=100)
    curve: list[CurveLine] = Field(default=[], max_length=MAX_LINES)


class TrainingReply(BaseModel):
    """``stop``: its user wants this run to end."""

    stop: bool = False
