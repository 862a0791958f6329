"""Requests and responses of /trainings, besides those in ``contracts.training``."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.training import StageProgress
from contracts.values import FreeJson


class NewTraining(BaseModel):
    """A run without a job."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "tiny", "recipe": "tiny"}]})
    name: str = Field(min_length=1, max_length=120)
    recipe: str = Field(min_length=1, max_length=120)


class TrainingSummary(BaseModel):
    """``state``: queued, running, stopping, silent (a run without a job that stopped reporting), finished, failed,
    stopped. ``where`` is the trainer that holds it."""

    id: str
    name: str
    recipe: str
    state: Literal["queued", "running", "stopping", "silent", "finished", "failed", "stopped"]
    job_id: str | None
    study_id: str | None
    trial_id: str | None
    trial_number: int | None
    where: str | None
    share: float | None
    message: str
    error: str
    attempts: int
    num_stages: int
    num_done: int
    revision: int
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None


class TrainingView(TrainingSummary):
    """``result`` is the trainer's result, without its losses."""

    stages: list[StageProgress]
    result: FreeJson | None


class Curve(BaseModel):
    """``columns`` maps every name to one value per step; None where a line has no value."""

    stage: str
    steps: list[int]
    columns: dict[str, list[float | None]]
