"""Devices and enrolment tokens."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from nas.contracts.states import JobState
from server.errors import NotFound
from server.tables import DeviceRow, EnrolmentTokenRow, JobRow


def get_or_raise(session: Session, device_id: str) -> DeviceRow:
    row = session.get(DeviceRow, device_id)
    if row is None:
        raise NotFound(f"there is no device {device_id!r}; GET /api/v1/devices lists them")
    return row


def find_by_name(session: Session, name: str) -> DeviceRow | None:
    return session.scalars(select(DeviceRow).where(DeviceRow.name == name)).one_or_none()


def all_devices(session: Session) -> list[DeviceRow]:
    return list(session.scalars(select(DeviceRow).order_by(DeviceRow.name)))


def current_jobs(session: Session) -> dict[str, JobRow]:
    """Device id -> the job it holds."""
    query = select(JobRow).where(JobRow.state == JobState.LEASED).order_by(JobRow.leased_at)
    return {row.leased_by: row for row in session.scalars(query) if row.leased_by}


def use_enrolment_token(session: Session, token_hash: str, now: datetime) -> bool:
    """One conditional UPDATE: of two agents with one token, one enrols."""
    statement = (
        update(EnrolmentTokenRow)
        .where(
            EnrolmentTokenRow.token_hash == token_hash,
            EnrolmentTokenRow.used_at.is_(None),
            EnrolmentTokenRow.expires_at > now,
        )
        .values(used_at=now)
        .returning(EnrolmentTokenRow.token_hash)
        .execution_options(synchronize_session=False)
    )
    return session.scalars(statement).one_or_none() is not None
