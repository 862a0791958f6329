"""Study rows."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from contracts.states import StudyState
from contracts.study import StudyRecord, StudySpec
from server.errors import NotFound
from server.readable import finite, readable, unreadable
from server.tables import StudyRow


def get_or_raise(session: Session, study_id: str) -> StudyRow:
    row = session.get(StudyRow, study_id)
    if row is None:
        raise NotFound(f"there is no study {study_id!r}; GET /api/v1/studies lists them")
    return row


def find_by_key(session: Session, idempotency_key: str) -> StudyRow | None:
    return session.scalars(select(StudyRow).where(StudyRow.idempotency_key == idempotency_key)).one_or_none()


def newest_first(session: Session) -> list[StudyRow]:
    return list(session.scalars(select(StudyRow).order_by(StudyRow.created_at.desc(), StudyRow.id)))


def running_ids(session: Session) -> list[str]:
    query = select(StudyRow.id).where(StudyRow.state == StudyState.RUNNING).order_by(StudyRow.created_at)
    return list(session.scalars(query))


def record_of(row: StudyRow) -> StudyRecord:
    """The record; parts of its spec that this version cannot read are left out and named in the reason."""
    filler = {"name": row.name, "objectives": [{"metric": "quality"}]}
    spec, left_out = readable(StudySpec, row.spec, filler)
    return StudyRecord(
        id=row.id, spec=spec, state=StudyState(row.state),
        reason=f"{row.reason} {unreadable(left_out)}".strip() if left_out else row.reason,
        reference_point=_numbers(row.reference_point), created_at=row.created_at, finished_at=row.finished_at,
    )  # fmt: skip


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    return {key: number for key, value in values.items() if (number := finite(value)) is not None}
