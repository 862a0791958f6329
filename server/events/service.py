"""Following the events of a study: first those stored after an id, then new ones."""

from __future__ import annotations

from collections.abc import AsyncIterator

from anyio.to_thread import run_sync

from server.context import Context
from server.events.repository import events_after
from server.events.schemas import EventView
from server.hub import events_topic

POLL_S = 5.0  # for events written by another process


async def follow(ctx: Context, study_id: str, last_id: int, *, wait: bool = True) -> AsyncIterator[EventView]:
    """Endless unless ``wait`` is False. The version is read before the table, so no event is missed."""
    topic = events_topic(study_id)
    while True:
        seen = ctx.hub.versions([topic])
        events = await run_sync(_load, ctx, study_id, last_id)
        for event in events:
            last_id = event.id
            yield event
        if events:
            continue
        if not wait:
            return
        await ctx.hub.wait_async(seen, POLL_S)


def _load(ctx: Context, study_id: str, last_id: int) -> list[EventView]:
    with ctx.database.read() as session:
        rows = events_after(session, study_id, last_id)
        return [EventView.model_validate(row, from_attributes=True) for row in rows]
