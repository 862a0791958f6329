"""Requests and responses of the trial endpoints."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from contracts.job import TrainResult
from contracts.study import Quantization, StoredMeasurement, TrialFacts
from contracts.values import Count, FreeJson


class TrainRequest(BaseModel):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"recipe": "smoke", "quantization": "8da4w", "seed": 0}]}
    )
    recipe: str = Field(default="smoke", min_length=1, max_length=120)
    quantization: Quantization = "8da4w"
    seed: Count = 0
    options: FreeJson = {}


class TrialView(TrialFacts):
    """``arch`` as stored: it is shown even if the plugin of its mixer is not loaded."""

    arch: FreeJson


class MeasurementView(BaseModel):
    """``reused``: measured for another trial with the same plan, on a device of the same fingerprint."""

    id: str
    device_id: str
    form: str
    job_id: str | None
    reused: bool
    created_at: datetime
    measurement: StoredMeasurement


class TrainingView(BaseModel):
    id: str
    job_id: str
    created_at: datetime
    training: TrainResult
