"""One stored event as SSE sends it: ``id:`` for Last-Event-ID, ``event:`` its name, ``data:`` this object."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel


class EventView(BaseModel):
    id: int
    study_id: str
    event: str
    fields: dict[str, Any]
    created_at: datetime
