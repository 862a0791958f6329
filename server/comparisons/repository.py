"""Rows of comparisons. They never change: the same one posted again is the row that is there."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from contracts.comparison import Comparison
from contracts.values import clean_json
from server.context import new_id
from server.errors import NotFound
from server.tables import ComparisonRow


def add(session: Session, now: datetime, comparison: Comparison) -> ComparisonRow:
    digest = hashlib.sha256(comparison.model_dump_json().encode()).hexdigest()
    known = session.scalars(select(ComparisonRow).where(ComparisonRow.digest == digest)).first()
    if known is not None:
        return known
    row = ComparisonRow(
        id=new_id("comparison"), digest=digest, title=comparison.title, fingerprint=comparison.device.fingerprint,
        body=clean_json(comparison.model_dump(mode="json")), created_at=now,
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row


def get_or_raise(session: Session, comparison_id: str) -> ComparisonRow:
    row = session.get(ComparisonRow, comparison_id)
    if row is None:
        raise NotFound(f"there is no comparison {comparison_id!r}; GET /api/v1/comparisons lists them")
    return row


def newest_first(session: Session, fingerprint: str | None, limit: int, offset: int) -> Sequence[ComparisonRow]:
    query = select(ComparisonRow).order_by(ComparisonRow.created_at.desc(), ComparisonRow.id)
    if fingerprint is not None:
        query = query.where(ComparisonRow.fingerprint == fingerprint)
    return session.scalars(query.limit(limit).offset(offset)).all()
