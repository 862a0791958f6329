"""Training runs: registering, reporting, stopping and resuming. The run of a job has the job's id and state.

queued -> running -> finished | failed      queued, running -> stopping -> stopped      stopped, failed -> queued
"""

from __future__ import annotations

import json
from datetime import timedelta

from sqlalchemy.orm import Session

from contracts.states import JobState
from contracts.training import TrainingProgress, TrainingReply
from foundation.errors import InvalidConfig
from server.auth.service import Principal
from server.context import Context, new_id
from server.errors import Conflict, NotAllowed
from server.jobs import queue
from server.jobs import repository as jobs
from server.tables import JobRow, TrainingRunRow
from server.trainings import repository
from server.trainings.schemas import NewTraining

MAX_METRICS_BYTES = 64_000  # of one stage


def register(session: Session, ctx: Context, request: NewTraining) -> TrainingRunRow:
    return _add(session, ctx, new_id("run"), request.name, request.recipe)


def register_job(session: Session, ctx: Context, job: JobRow, name: str, recipe: str) -> TrainingRunRow:
    """The run of a job; an existing one if the job is known."""
    known = session.get(TrainingRunRow, job.id)
    return known or _add(session, ctx, job.id, name, recipe, job_id=job.id, trial_id=job.trial_id)


def _add(session: Session, ctx: Context, run_id: str, name: str, recipe: str, **whose: str) -> TrainingRunRow:
    now = ctx.now()
    row = TrainingRunRow(
        id=run_id, name=name, recipe=recipe, state="running", message="", stages=[], strides={}, stop_requested=False,
        revision=1, created_at=now, updated_at=now, **whose,
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row


def report(
    session: Session, ctx: Context, principal: Principal, training_id: str, progress: TrainingProgress
) -> TrainingReply:
    """Stores a run's progress. Raises Conflict once its lease is over."""
    row = repository.get_or_raise(session, training_id)
    _check_reporter(session, principal, row, progress)
    stages = [stage.model_dump(mode="json", exclude_defaults=True) for stage in progress.stages]
    for stage in stages:
        if len(json.dumps(stage.get("metrics", {}))) > MAX_METRICS_BYTES:
            raise InvalidConfig(f"the metrics of stage {stage['name']} are over {MAX_METRICS_BYTES} bytes; send fewer")
    repository.add_lines(session, row, progress.curve)
    row.stages = stages or row.stages
    row.share, row.message, row.state = progress.share, progress.message, progress.state
    if row.job_id is None and progress.state != "running":
        row.finished_at, row.stop_requested = ctx.now(), False
    repository.touch(session, ctx.now(), row)
    return TrainingReply(stop=row.stop_requested)


def _check_reporter(session: Session, principal: Principal, row: TrainingRunRow, progress: TrainingProgress) -> None:
    if row.job_id is None:
        if principal.scope == "agent":
            raise NotAllowed("only a user may report a run without a job, not an agent")
        return
    if not principal.device_id:
        raise NotAllowed(f"training {row.id} belongs to a job: only the trainer that leased it may report it")
    held = jobs.held(row.id, progress.fencing_token or 0, principal.device_id)
    if not jobs.exists(session, held):
        raise Conflict(f"lease {progress.fencing_token} of job {row.id} is over; drop the work", code="lease_lost")


def stop(session: Session, ctx: Context, training_id: str) -> TrainingRunRow:
    """A queued run ends at once, a running one with its trainer's next report. Its checkpoints are kept."""
    row = repository.get_or_raise(session, training_id)
    state = state_of(session, ctx, row)
    if state in ("stopping", "stopped"):
        return row
    if state not in ("queued", "running", "silent"):
        raise Conflict(f"training {row.name!r} is {state}: only a running one can be stopped", code="not_running")
    if row.job_id is None and state == "silent":
        row.state, row.finished_at = "stopped", ctx.now()
    elif row.job_id is None or not _end_queued(session, ctx, row.job_id):
        row.stop_requested = True
    repository.touch(session, ctx.now(), row)
    return row


def _end_queued(session: Session, ctx: Context, job_id: str) -> bool:
    ended = jobs.end_queued(session, JobRow.id == job_id, JobState.CANCELLED, ctx.now(), submit_key=None)
    session.expire_all()
    return ended > 0


def resume(session: Session, ctx: Context, training_id: str) -> TrainingRunRow:
    """Queues the run again; the trainer continues from the last checkpoint."""
    row = repository.get_or_raise(session, training_id)
    state = state_of(session, ctx, row)
    if row.job_id is None:
        raise Conflict(f"training {row.name!r} runs on its user's machine: `hilnas train run` again", code="not_a_job")
    if state not in ("stopped", "failed"):
        raise Conflict(f"training {row.name!r} is {state}: nothing to resume", code="not_ended")
    queue.requeue_ended(session, ctx, session.get_one(JobRow, row.job_id))
    row.stop_requested = False
    repository.touch(session, ctx.now(), row)
    return row


def state_of(session: Session, ctx: Context, row: TrainingRunRow) -> str:
    if row.job_id is not None:
        job = session.get_one(JobRow, row.job_id)
        names = {JobState.LEASED: "stopping" if row.stop_requested else "running", JobState.DONE: "finished",
                 JobState.CANCELLED: "stopped"}  # fmt: skip
        return names.get(JobState(job.state), str(job.state))
    if row.state == "running":
        if row.updated_at < ctx.now() - timedelta(seconds=ctx.settings.offline_after_s):
            return "silent"
        return "stopping" if row.stop_requested else "running"
    return row.state
