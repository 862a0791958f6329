"""Devices and enrolment tokens."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, select, update
from sqlalchemy.orm import Session

from contracts.device import DeviceFacts
from contracts.states import JobState
from contracts.values import bounded_json
from server.errors import NotFound
from server.readable import readable, unreadable
from server.tables import DeviceRow, EnrolmentTokenRow, JobRow, MeasurementRow


def get_or_raise(session: Session, device_id: str) -> DeviceRow:
    row = session.get(DeviceRow, device_id)
    if row is None:
        raise NotFound(f"there is no device {device_id!r}; GET /api/v1/devices lists them")
    return row


def find_by_name(session: Session, name: str) -> DeviceRow | None:
    return session.scalars(select(DeviceRow).where(DeviceRow.name == name)).one_or_none()


def all_devices(session: Session) -> list[DeviceRow]:
    return list(session.scalars(select(DeviceRow).order_by(DeviceRow.name)))


def measuring(session: Session) -> list[DeviceRow]:
    """Devices that measure and are not draining, by name."""
    rows = session.scalars(select(DeviceRow).where(DeviceRow.draining.is_(False)).order_by(DeviceRow.name))
    return [row for row in rows if "measure" in row.serves]


def measuring_facts(session: Session) -> dict[str, DeviceFacts]:
    """Device id -> facts of the devices in ``measuring``."""
    return {row.id: facts_of(row) for row in measuring(session)}


def facts_of(row: DeviceRow) -> DeviceFacts:
    """The facts that the device reported; values from an older version that cannot be read are replaced by a note."""
    filler = {"kind": "host", "name": row.name, "model": "", "arch": "", "cores": 0, "memory_bytes": 0, "os": ""}
    facts, notes = readable(DeviceFacts, row.facts, filler)
    return facts if not notes else facts.model_copy(update={"details": facts.details | {"note": unreadable(notes)}})


def takes_shared_work() -> ColumnElement[bool]:
    return and_(DeviceRow.draining.is_(False), DeviceRow.quarantine == "")


def peers_of(device: DeviceRow) -> tuple[ColumnElement[bool], ...]:
    """Conditions for other devices with the same fingerprint."""
    return (DeviceRow.fingerprint == device.fingerprint, DeviceRow.id != device.id)


def other_peer(session: Session, fingerprint: str, avoid: str) -> str | None:
    """The most recently seen other device with this fingerprint that takes shared work, or None."""
    query = select(DeviceRow).where(DeviceRow.fingerprint == fingerprint, DeviceRow.id != avoid, takes_shared_work())
    rows = [row for row in session.scalars(query.order_by(DeviceRow.last_seen.desc())) if "measure" in row.serves]
    return rows[0].id if rows else None


def names_of_peers(session: Session, device: DeviceRow) -> list[str]:
    return list(session.scalars(select(DeviceRow.name).where(*peers_of(device)).order_by(DeviceRow.name)))


def _own_rows(device_id: str) -> tuple[ColumnElement[bool], ...]:
    """Conditions for rows that the device itself measured, not reused ones."""
    return (MeasurementRow.device_id == device_id, MeasurementRow.job_id.is_not(None))


def count_verdicts(session: Session, device_id: str, limit: int) -> dict[str, int]:
    """Verdict -> how many of the device's last ``limit`` rows have it, the most frequent first."""
    query = select(MeasurementRow.verdict).where(*_own_rows(device_id))
    return dict(Counter(session.scalars(query.order_by(MeasurementRow.created_at.desc()).limit(limit))).most_common())


def last_environment(session: Session, device_id: str) -> dict[str, Any]:
    """The environment that the device reported with its last measurement."""
    query = select(MeasurementRow.body).where(*_own_rows(device_id))
    body = session.scalars(query.order_by(MeasurementRow.created_at.desc()).limit(1)).first()
    environment = (body or {}).get("environment")
    return dict(bounded_json(environment)) if isinstance(environment, dict) else {}


def current_jobs(session: Session) -> dict[str, JobRow]:
    """Device id -> the job it holds."""
    query = select(JobRow).where(JobRow.state == JobState.LEASED).order_by(JobRow.leased_at)
    return {row.leased_by: row for row in session.scalars(query) if row.leased_by}


def use_enrolment_token(session: Session, token_hash: str, now: datetime) -> bool:
    """One conditional UPDATE: of two agents with the same token, only one enrols."""
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
