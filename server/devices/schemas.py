"""Devices as the API shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.device import DeviceFacts
from contracts.job import JobKind


class EnrolmentTokenRequest(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"note": "phone on desk 4", "serves": ["measure"], "expires_in_s": 900}]},
    )
    note: str = Field(default="", max_length=200)
    serves: list[JobKind] | None = Field(
        default=None, min_length=1, max_length=8,
        description="jobs that the agent may take; default: measure, and in local mode also train",
    )  # fmt: skip
    expires_in_s: float | None = Field(default=None, gt=0, le=7 * 86400)


class EnrolmentToken(BaseModel):
    """Good for one enrolment. Shown once."""

    token: str
    serves: list[JobKind]
    expires_at: datetime


class DrainRequest(BaseModel):
    """``draining: false`` returns the device to service."""

    draining: bool = True


class CurrentJob(BaseModel):
    id: str
    kind: str
    study_id: str
    trial_id: str
    trial_number: int | None
    progress: float | None
    message: str


class CanaryView(BaseModel):
    """The last time of the canary against its reference: how far this device has drifted."""

    reference_ms: float | None = None
    median_ms: float | None = None
    drift: float | None = None
    measured_at: datetime | None = None


class DeviceView(BaseModel):
    id: str
    name: str
    state: Literal["online", "offline"]
    draining: bool
    fingerprint: str
    facts: DeviceFacts
    serves: list[JobKind]
    last_seen: datetime
    current_job: CurrentJob | None
    num_queued: int  # jobs that wait for it, alone or shared with its peers
    canary: CanaryView | None
    quarantine: str = Field(description="why it gets no shared work; empty when it does")
    twins: list[str] = Field(description="names of the devices it shares work with")
    verdicts: dict[str, int] = Field(description="of its last 50 rows")
    environment: dict[str, Any] = Field(description="at its last measurement, as its agent reported it")
