"""The queue: submitting, leasing and ending jobs. ``server.jobs.results`` decides what follows a finished job.

Every function runs in the transaction of its caller."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy.orm import Session

from contracts.job import Heartbeat, HeartbeatReply, Lease, MeasureJob, TrainJob
from contracts.measurement import Verdict
from contracts.states import JobState, StudyState
from nas.targets import DeviceGroup
from server.auth.service import Agent
from server.context import Context, new_id
from server.devices import peers
from server.devices import repository as devices
from server.errors import Conflict, NotFound
from server.events.repository import emit
from server.hub import publish, queue_topic, work_topic
from server.jobs import repository
from server.tables import DeviceRow, JobRow, StudyRow, TrainingRunRow
from server.trainings import repository as trainings

log = structlog.get_logger(__name__)
NUM_UPCOMING = 4  # a phone's cache would evict the blocks of more


def submit_to(
    session: Session,
    ctx: Context,
    *,
    study_id: str,
    trial_id: str,
    group: DeviceGroup,
    job: MeasureJob,
    avoid: str = "",
) -> JobRow:
    """Queues ``job`` once for the group. With ``avoid`` it goes to a peer of that device, if there is one."""
    if group.device_id:
        return submit(session, ctx, study_id=study_id, trial_id=trial_id, device_id=group.device_id, job=job,
                      target=group.target)  # fmt: skip
    peer = devices.other_peer(session, group.fingerprint, avoid) if avoid else None
    return submit(session, ctx, study_id=study_id, trial_id=trial_id, device_id=peer, job=job, pool=group.fingerprint,
                  target=group.target)  # fmt: skip


def submit(
    session: Session,
    ctx: Context,
    *,
    study_id: str,
    trial_id: str,
    device_id: str | None,
    job: MeasureJob | TrainJob,
    pool: str | None = None,
    target: str = "",
) -> JobRow:
    """Queues ``job``. Submitting the same job for the same trial and device (or pool) again returns the first one in
    whatever state it is; only a cancelled one is queued again."""
    key = _submit_key(trial_id, pool or device_id, target, job)
    row = repository.find_by_submit_key(session, key)
    if row is not None:
        return row
    row = JobRow(
        id=new_id("job"), kind=job.kind, form=getattr(job, "form", ""), state=JobState.QUEUED, study_id=study_id,
        trial_id=trial_id, device_id=device_id, pool=pool, target=target, submit_key=key,
        payload=job.model_dump(mode="json"), created_at=ctx.now(),
        plan_digest=job.plan.digest if isinstance(job, MeasureJob) else "",
    )  # fmt: skip
    session.add(row)
    session.flush()
    publish(session, queue_topic(device_id or pool))
    emit(session, ctx.now(), study_id, "job_queued", job_id=row.id, trial_id=trial_id, device_id=device_id,
         kind=row.kind, form=row.form, target=target)  # fmt: skip
    return row


def _submit_key(trial_id: str, address: str | None, target: str, job: MeasureJob | TrainJob) -> str:
    if isinstance(job, MeasureJob):
        what = f"{job.form}|{job.plan.digest}|{job.attempt}"
    else:
        what = job.model_dump_json(exclude=None if job.weights else {"weights"})  # as before there were any
    where = f"{address}|{target}" if target else address
    return hashlib.sha256(f"{job.kind}|{trial_id}|{where}|{what}".encode()).hexdigest()


def get_or_raise(session: Session, job_id: str) -> JobRow:
    row = session.get(JobRow, job_id)
    if row is None:
        raise NotFound(f"there is no job {job_id!r}; GET /api/v1/jobs lists them")
    return row


def lease(session: Session, ctx: Context, agent: Agent) -> Lease | None:
    """The next job for this agent's device, or None. A draining device gets none; one in quarantine gets no shared job
    except a probe now and then."""
    device = session.get_one(DeviceRow, agent.device_id)
    if device.draining:
        return None
    expires_at = ctx.now() + timedelta(seconds=ctx.settings.lease_s)
    row = repository.lease_next(
        session, device_id=device.id, pool=_pool_of(session, ctx, device), agent_id=agent.agent_id,
        serves=device.serves, now=ctx.now(), expires_at=expires_at,
    )  # fmt: skip
    if row is None:
        return None
    trainings.touch_job(session, ctx.now(), row)
    emit(session, ctx.now(), row.study_id, "job_leased", job_id=row.id, trial_id=row.trial_id, device_id=device.id,
         fencing_token=row.fencing_token)  # fmt: skip
    return Lease(
        job_id=row.id, fencing_token=row.fencing_token, expires_at=expires_at, heartbeat_s=ctx.settings.heartbeat_s,
        job=repository.job_of(row),
    )  # fmt: skip


def _pool_of(session: Session, ctx: Context, device: DeviceRow) -> str | None:
    return device.fingerprint if peers.shares_work(session, ctx, device) else None


def upcoming(session: Session, ctx: Context, agent: Agent) -> list[str]:
    """Digests of the blocks that this device's next jobs need, in that order, without leasing anything."""
    device = session.get_one(DeviceRow, agent.device_id)
    if device.draining:
        return []
    rows = repository.upcoming(session, device.id, _pool_of(session, ctx, device), device.serves, NUM_UPCOMING)
    jobs = [job for job in map(repository.job_of, rows) if isinstance(job, MeasureJob)]
    return list(dict.fromkeys(digest for job in jobs for digest in job.blocks))


def heartbeat(session: Session, ctx: Context, agent: Agent, job_id: str, beat: Heartbeat) -> HeartbeatReply:
    """Renews the lease. Raises Conflict when this agent no longer holds it: the job may be another agent's now."""
    expires_at = ctx.now() + timedelta(seconds=ctx.settings.lease_s)
    values: dict[str, Any] = {"lease_expires_at": expires_at, "progress": beat.progress, "message": beat.message}
    if beat.details:
        values["details"] = beat.details
    row = repository.change(session, repository.held(job_id, beat.fencing_token, agent.device_id), **values)
    if row is None:
        state = get_or_raise(session, job_id).state
        raise Conflict(
            f"lease {beat.fencing_token} of job {job_id} is over, the job is {state}; drop the work and lease again",
            code="lease_lost",
        )
    device = session.get_one(DeviceRow, agent.device_id)
    device.last_seen = ctx.now()
    return HeartbeatReply(expires_at=expires_at, cancel=is_unwanted(session, row), drain=device.draining)


def is_unwanted(session: Session, row: JobRow) -> bool:
    """True for measurements of a stopped search. Trainings and measurements of trained programs outlive their study; a
    training ends when its own user stops it."""
    if row.kind == "train":
        run = session.get(TrainingRunRow, row.id)
        return run is not None and run.stop_requested
    study = session.get_one(StudyRow, row.study_id)
    return row.form != "trained" and study.state in (StudyState.STOPPED, StudyState.FAILED)


def expire(session: Session, ctx: Context) -> int:
    """Puts jobs whose lease ran out back in the queue; after the last attempt they fail with a reason."""
    num_expired = 0
    for job_id, token in repository.expired(session, ctx.now()):
        condition = repository.live(job_id, token, before=ctx.now())
        num_expired += requeue(session, ctx, condition, "its agent went silent", Verdict.DEVICE_LOST) is not None
    return num_expired


def requeue_ended(session: Session, ctx: Context, row: JobRow) -> None:
    """Queues a cancelled or failed job again under its own id, with all attempts available."""
    repository.change(
        session, JobRow.id == row.id, state=JobState.QUEUED, attempts=0, error="", error_code="", finished_at=None,
        lease_expires_at=None, message="", submit_key=_submit_key(row.trial_id, row.pool or row.device_id, row.target,
        repository.job_of(row)),
    )  # fmt: skip
    publish(session, queue_topic(row.device_id or row.pool))
    emit(session, ctx.now(), row.study_id, "job_requeued", job_id=row.id, trial_id=row.trial_id, device_id=None,
         reason="resumed by its user", attempts=0)  # fmt: skip


def requeue(session: Session, ctx: Context, condition: repository.Condition, why: str, code: str) -> JobRow | None:
    """Puts the job back in the queue with its attempts counted up; the job ends after the last attempt, or when its
    study was stopped."""
    row = repository.change(session, condition, attempts=JobRow.attempts + 1)
    if row is None:
        return None
    values: dict[str, object] = {"state": JobState.QUEUED}
    event = "job_requeued"
    if is_unwanted(session, row):
        values = {"state": JobState.CANCELLED, "submit_key": None, "finished_at": ctx.now()}
        event = "job_cancelled"
    elif row.attempts >= ctx.settings.max_attempts:
        values = {"state": JobState.FAILED, "finished_at": ctx.now(), "error_code": code or "job_failed",
                  "error": f"given up after {row.attempts} attempts: {why}"}  # fmt: skip
        event = "job_failed"
    repository.change(session, JobRow.id == row.id, lease_expires_at=None, progress=None, message=why, **values)
    publish(session, queue_topic(row.device_id or row.pool))
    publish(session, work_topic(row.study_id))
    trainings.touch_job(session, ctx.now(), row)
    emit(session, ctx.now(), row.study_id, event, job_id=row.id, trial_id=row.trial_id, device_id=row.leased_by,
         reason=why, attempts=row.attempts)  # fmt: skip
    return row
