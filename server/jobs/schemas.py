"""A job as the API shows it."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel

from contracts.values import FreeJson


class JobView(BaseModel):
    id: str
    kind: str
    form: str
    state: str
    study_id: str
    trial_id: str
    trial_number: int | None
    device_id: str | None
    device_name: str | None
    target: str
    pool: str | None
    fencing_token: int
    attempts: int
    progress: float | None
    message: str
    details: FreeJson
    verdict: str
    error: str
    error_code: str
    created_at: datetime
    leased_at: datetime | None
    lease_expires_at: datetime | None
    finished_at: datetime | None
