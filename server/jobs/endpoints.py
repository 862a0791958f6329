"""/agents/lease and /jobs: how agents get work and report results, how people see the queue."""

from __future__ import annotations

from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Body, Query, Request, Response

from contracts.job import Heartbeat, HeartbeatReply, JobReply, JobResult, Lease, LeaseRequest, Upcoming
from contracts.states import JobState
from contracts.values import MAX_INTEGER
from server.auth.dependencies import DeviceAgent, User
from server.auth.service import Agent
from server.context import Context, Ctx
from server.devices import service as devices
from server.hub import queue_topic
from server.jobs import queue, repository, results
from server.jobs.schemas import JobView
from server.jobs.views import job_view, job_views
from server.responses import CONFLICT, NOT_FOUND
from server.tables import DeviceRow

POLL_S = 2.0  # jobs queued by another process do not wake us

BEAT = {"fencing_token": 1, "progress": 0.4, "message": "repetition 2 of 5"}
RESULT = {"fencing_token": 1, "error": "the device went over 45 degrees", "error_code": "thermal_limit", "retry": True}

router = APIRouter(tags=["jobs"])


@router.post("/agents/lease", response_model=Lease, responses={204: {"description": "no job is queued"}})
async def lease_job(
    request: Annotated[LeaseRequest, Body(examples=[{"wait_s": 20}])], http: Request, ctx: Ctx, agent: DeviceAgent
) -> Lease | Response:
    """Takes the next job of this device. Waits up to ``wait_s`` and returns as soon as one is queued."""
    lease = await _lease_within(ctx, agent, http, min(request.wait_s, ctx.settings.max_wait_s))
    return lease or Response(status_code=204)


async def _lease_within(ctx: Context, agent: Agent, http: Request, wait_s: float) -> Lease | None:
    topics = (queue_topic(agent.device_id), queue_topic(await run_sync(_fingerprint, ctx, agent)), queue_topic(None))
    while True:
        seen = ctx.hub.versions(topics)
        lease = await run_sync(_try_lease, ctx, agent)
        if lease is not None or wait_s <= 0 or await http.is_disconnected():
            return lease
        await ctx.hub.wait_async(seen, min(wait_s, POLL_S))
        wait_s -= POLL_S


def _fingerprint(ctx: Context, agent: Agent) -> str:
    with ctx.database.read() as session:
        return session.get_one(DeviceRow, agent.device_id).fingerprint


def _try_lease(ctx: Context, agent: Agent) -> Lease | None:
    with ctx.database.write() as session:
        devices.seen(session, ctx, agent.device_id)
        queue.expire(session, ctx)
        return queue.lease(session, ctx, agent)


@router.get("/agents/upcoming")
def upcoming(ctx: Ctx, agent: DeviceAgent) -> Upcoming:
    """The blocks that this device will need next, so that an agent can fetch and push them while the device cools."""
    with ctx.database.read() as session:
        return Upcoming(blocks=queue.upcoming(session, ctx, agent))


@router.post("/jobs/{job_id}/heartbeat", responses=NOT_FOUND | CONFLICT)
def heartbeat(
    job_id: str, beat: Annotated[Heartbeat, Body(examples=[BEAT])], ctx: Ctx, agent: DeviceAgent
) -> HeartbeatReply:
    """Renews the lease and reports progress. 409 ``lease_lost``: stop working on it."""
    with ctx.database.write() as session:
        return queue.heartbeat(session, ctx, agent, job_id, beat)


@router.post("/jobs/{job_id}/result", responses=NOT_FOUND)
def finish_job(
    job_id: str, result: Annotated[JobResult, Body(examples=[RESULT])], ctx: Ctx, agent: DeviceAgent
) -> JobReply:
    """Reports a result; safe to repeat. Under an older fencing token it is kept but not counted."""
    with ctx.database.write() as session:
        devices.seen(session, ctx, agent.device_id)
        return results.finish(session, ctx, agent, job_id, result)


@router.get("/jobs")
def list_jobs(
    ctx: Ctx,
    user: User,
    study_id: str | None = None,
    device_id: str | None = None,
    trial_id: str | None = None,
    state: JobState | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=MAX_INTEGER)] = 0,
) -> list[JobView]:
    """Newest first."""
    query = repository.jobs_query(study_id=study_id, device_id=device_id, trial_id=trial_id, state=state)
    with ctx.database.read() as session:
        return job_views(session, session.scalars(query.limit(limit).offset(offset)).all())


@router.get("/jobs/{job_id}", responses=NOT_FOUND)
def get_job(job_id: str, ctx: Ctx, user: User) -> JobView:
    with ctx.database.read() as session:
        return job_view(session, queue.get_or_raise(session, job_id))
