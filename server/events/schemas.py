"""One stored event as sent over SSE: ``id:`` for Last-Event-ID, ``event:`` its name, ``data:`` this object."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel

from contracts.values import FreeJson


class EventView(BaseModel):
    id: int
    study_id: str
    event: str
    fields: FreeJson
    created_at: datetime
