"""/studies/{id}/events: server-sent events that continue after Last-Event-ID."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query
from sse_starlette import EventSourceResponse, ServerSentEvent

from contracts.values import MAX_INTEGER
from server.auth.dependencies import User
from server.context import Context, Ctx
from server.events.repository import last_event_id
from server.events.service import follow
from server.responses import NOT_FOUND
from server.studies.repository import get_or_raise

PING_S = 15

router = APIRouter(tags=["events"])


@router.get("/studies/{study_id}/events", response_class=EventSourceResponse, responses=NOT_FOUND)
def stream_events(
    study_id: str,
    ctx: Ctx,
    user: User,
    last_event_id_header: Annotated[int | None, Header(alias="Last-Event-ID", ge=-1, le=MAX_INTEGER)] = None,
    after: Annotated[
        int | None, Query(ge=-1, le=MAX_INTEGER, description="like Last-Event-ID; -1: only new events")
    ] = None,
    wait: Annotated[bool, Query(description="false: end after the stored events")] = True,
) -> EventSourceResponse:
    """Streams the study's events after an event id: first the stored ones, then live."""
    last_id = after if last_event_id_header is None else last_event_id_header
    with ctx.database.read() as session:
        get_or_raise(session, study_id)
        if last_id == -1:
            last_id = last_event_id(session, study_id)
    return EventSourceResponse(_messages(ctx, study_id, last_id or 0, wait), ping=PING_S)


async def _messages(ctx: Context, study_id: str, last_id: int, wait: bool) -> AsyncIterator[ServerSentEvent]:
    async for event in follow(ctx, study_id, last_id, wait=wait):
        yield ServerSentEvent(event.model_dump_json(), event=event.event, id=str(event.id))
