"""Stored events. Each is appended in the transaction of the change that it reports, so none reports a rollback."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import structlog
from pydantic_core import to_jsonable_python
from sqlalchemy import delete, func, select, text
from sqlalchemy.orm import Session

from server.hub import events_topic, publish
from server.tables import EventRow

log = structlog.get_logger(__name__)


def emit(session: Session, now: datetime, study_id: str, event: str, /, **fields: Any) -> None:
    """Adds an event. PostgreSQL assigns ids before commit, so writers of one study take turns: otherwise a reader could
    see id 8 before 7 is visible and never read 7."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:study, 0))"), {"study": study_id})
    fields = to_jsonable_python(fields, fallback=str)
    session.add(EventRow(study_id=study_id, event=event, fields=fields, created_at=now))
    publish(session, events_topic(study_id))
    log.info(event, **{**{key: value for key, value in fields.items() if key != "event"}, "study_id": study_id})


def prune(session: Session, study_id: str, keep: int) -> None:
    """Deletes all events but the newest ``keep``."""
    newest = select(EventRow.id).where(EventRow.study_id == study_id).order_by(EventRow.id.desc())
    oldest_kept = session.scalar(newest.offset(keep - 1).limit(1))
    if oldest_kept is not None:
        session.execute(delete(EventRow).where(EventRow.study_id == study_id, EventRow.id < oldest_kept))


def events_after(session: Session, study_id: str, last_id: int, limit: int = 500) -> list[EventRow]:
    query = select(EventRow).where(EventRow.study_id == study_id, EventRow.id > last_id)
    return list(session.scalars(query.order_by(EventRow.id).limit(limit)))


def last_event_id(session: Session, study_id: str) -> int:
    return session.scalar(select(func.max(EventRow.id)).where(EventRow.study_id == study_id)) or 0
