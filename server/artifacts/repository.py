"""Media types of stored files. A file without a row (killed right after the rename) is still served."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from server.tables import ArtifactRow

DEFAULT_MEDIA_TYPE = "application/octet-stream"


def media_type_of(session: Session, sha256: str) -> str:
    row = session.get(ArtifactRow, sha256)
    return row.media_type if row else DEFAULT_MEDIA_TYPE


def record(session: Session, sha256: str, num_bytes: int, media_type: str, now: datetime) -> None:
    """Keeps the first media type given for this content."""
    if session.get(ArtifactRow, sha256) is None:
        session.add(ArtifactRow(sha256=sha256, num_bytes=num_bytes, media_type=media_type, created_at=now))


def total_bytes(session: Session) -> int:
    """Of all complete files that have a row."""
    return int(session.scalar(select(func.sum(ArtifactRow.num_bytes))) or 0)
