"""/trainings: the progress of training runs, their curves, stopping and resuming; live as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Body, Header, Query
from sse_starlette import EventSourceResponse, ServerSentEvent

from contracts.training import TrainingProgress, TrainingReply
from contracts.values import MAX_INTEGER
from server.auth.dependencies import Anyone, User
from server.context import Context, Ctx
from server.hub import training_topic
from server.responses import CONFLICT, NOT_FOUND
from server.trainings import repository, service
from server.trainings.schemas import Curve, NewTraining, TrainingSummary, TrainingView
from server.trainings.views import curves, summary, view

PING_S, POLL_S = 15, 5.0
PROGRESS = {
    "fencing_token": 1, "share": 0.2, "message": "step 20 of 340, loss 6.1",
    "stages": [{"name": "pretrain", "kind": "pretrain", "state": "running", "share": 0.06, "eta_s": 310}],
    "curve": [{"stage": "pretrain", "step": 19, "values": {"loss": 6.1}}],
}  # fmt: skip

router = APIRouter(prefix="/trainings", tags=["trainings"])


@router.get("")
def list_trainings(
    ctx: Ctx,
    user: User,
    study_id: str | None = None,
    trial_id: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=MAX_INTEGER)] = 0,
) -> list[TrainingSummary]:
    """Newest first."""
    with ctx.database.read() as session:
        rows = repository.newest_first(session, study_id, trial_id, limit, offset)
        return [summary(session, ctx, row) for row in rows]


@router.post("", status_code=201)
def register_training(request: NewTraining, ctx: Ctx, user: User) -> TrainingView:
    """Registers a run on the user's own machine; runs of trials are created by /trials/{id}/train."""
    with ctx.database.write() as session:
        return view(session, ctx, service.register(session, ctx, request))


@router.get("/{training_id}", responses=NOT_FOUND)
def get_training(training_id: str, ctx: Ctx, user: User) -> TrainingView:
    """Every stage with its state, seconds and metrics."""
    with ctx.database.read() as session:
        return view(session, ctx, repository.get_or_raise(session, training_id))


@router.get("/{training_id}/curve", responses=NOT_FOUND)
def get_curve(
    training_id: str,
    ctx: Ctx,
    user: User,
    stage: str | None = None,
    after: Annotated[int, Query(ge=-1, le=MAX_INTEGER, description="only steps after this one")] = -1,
) -> list[Curve]:
    """Loss and other values per step, at most 1,024 lines per stage: long curves are thinned."""
    with ctx.database.read() as session:
        repository.get_or_raise(session, training_id)
        return curves(repository.curve_rows(session, training_id, stage, after))


@router.post("/{training_id}/progress", responses=NOT_FOUND | CONFLICT)
def report_progress(
    training_id: str, progress: Annotated[TrainingProgress, Body(examples=[PROGRESS])], ctx: Ctx, principal: Anyone
) -> TrainingReply:
    """Reports the state of all stages and the next lines of curves; safe to repeat. 409 ``lease_lost``: stop working
    on it."""
    with ctx.database.write() as session:
        return service.report(session, ctx, principal, training_id, progress)


@router.post("/{training_id}/stop", responses=NOT_FOUND | CONFLICT)
def stop_training(training_id: str, ctx: Ctx, user: User) -> TrainingView:
    """Ends the run at its next step; its checkpoints are kept. Stopping again changes nothing."""
    with ctx.database.write() as session:
        return view(session, ctx, service.stop(session, ctx, training_id))


@router.post("/{training_id}/resume", responses=NOT_FOUND | CONFLICT)
def resume_training(training_id: str, ctx: Ctx, user: User) -> TrainingView:
    """Queues a stopped or failed run again; its trainer continues from the last checkpoint."""
    with ctx.database.write() as session:
        return view(session, ctx, service.resume(session, ctx, training_id))


@router.get("/{training_id}/events", response_class=EventSourceResponse, responses=NOT_FOUND)
def stream_training(
    training_id: str,
    ctx: Ctx,
    user: User,
    last_event_id: Annotated[int | None, Header(alias="Last-Event-ID", ge=-1, le=MAX_INTEGER)] = None,
    wait: Annotated[bool, Query(description="false: end after the current state")] = True,
) -> EventSourceResponse:
    """Streams the run's summary, now and at every change; the event's id is its revision."""
    with ctx.database.read() as session:
        repository.get_or_raise(session, training_id)
    return EventSourceResponse(_messages(ctx, training_id, last_event_id or 0, wait), ping=PING_S)


async def _messages(ctx: Context, training_id: str, seen: int, wait: bool) -> AsyncIterator[ServerSentEvent]:
    topic = training_topic(training_id)
    while True:
        versions = ctx.hub.versions([topic])
        now = await run_sync(_summary, ctx, training_id)
        if now.revision != seen:
            seen = now.revision
            yield ServerSentEvent(now.model_dump_json(), event="training_changed", id=str(seen))
        if not wait:
            return
        await ctx.hub.wait_async(versions, POLL_S)


def _summary(ctx: Context, training_id: str) -> TrainingSummary:
    with ctx.database.read() as session:
        return summary(session, ctx, repository.get_or_raise(session, training_id))
