"""Changing trials under the state machine, and starting trainings."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from contracts.job import TrainJob
from contracts.states import TRIAL_MOVES, JobState, TrialState
from contracts.study import memory_budget
from search_space.arch import ArchConfig
from server.context import Context, new_id
from server.errors import Conflict
from server.events.repository import emit
from server.jobs import queue
from server.jobs import repository as job_rows
from server.studies import repository as studies
from server.tables import JobRow, TrainingRunRow, TrialRow
from server.trainings import service as trainings
from server.trials import repository
from server.trials.schemas import TrainRequest


def add(
    session: Session, ctx: Context, study_id: str, assignment: dict[str, Any], arch: ArchConfig,
    sampler_attrs: dict[str, Any] | None = None,
) -> TrialRow:  # fmt: skip
    now = ctx.now()
    row = TrialRow(
        id=new_id("trial"), study_id=study_id, number=repository.next_number(session, study_id),
        state=TrialState.PROPOSED, assignment=assignment, arch=arch.to_dict(), arch_digest=arch.digest, reason="",
        sampler_attrs=sampler_attrs or {}, costs={}, blocks=[], values={}, artifacts={}, created_at=now, updated_at=now,
    )  # fmt: skip
    session.add(row)
    session.flush()
    emit(session, now, study_id, "trial_changed", trial_id=row.id, number=row.number, state=row.state)
    return row


def update(session: Session, ctx: Context, trial_id: str, changes: dict[str, Any]) -> TrialRow:
    """``changes`` holds columns of the trial; ``artifacts`` are merged. Illegal moves raise Conflict."""
    row = repository.get_or_raise(session, trial_id)
    state = changes.pop("state", None)
    if "artifacts" in changes:
        changes["artifacts"] = {**row.artifacts, **changes["artifacts"]}
    for name, value in changes.items():
        setattr(row, name, value)
    row.updated_at = ctx.now()
    if state is not None and state != row.state:
        _move(session, ctx, row, state)
    return row


def _move(session: Session, ctx: Context, row: TrialRow, state: TrialState) -> None:
    allowed = TRIAL_MOVES[TrialState(row.state)]
    if state not in allowed:
        raise Conflict(
            f"trial {row.number} is {row.state} and cannot become {state};"
            f" from there it may become {', '.join(sorted(allowed)) or 'nothing else'}",
            code="illegal_move",
        )
    row.state = state
    emit(session, ctx.now(), row.study_id, "trial_changed", trial_id=row.id, number=row.number, state=state,
         reason=row.reason)  # fmt: skip


def train(session: Session, ctx: Context, trial_id: str, request: TrainRequest) -> JobRow:
    """Queues a training job for any agent that serves them, with a run that shows its progress. Repeating the request
    returns the same job; one that its user stopped is resumed."""
    row = repository.get_or_raise(session, trial_id)
    spec = studies.record_of(studies.get_or_raise(session, row.study_id)).spec
    weights = row.artifacts.get("weights")
    job = TrainJob(arch=row.arch, budget_bytes=memory_budget(spec.all_budgets), weights=weights, **request.model_dump())
    stopped = _stopped(session, trial_id, job)
    if stopped is not None:
        trainings.resume(session, ctx, stopped.id)
        return stopped
    queued = queue.submit(session, ctx, study_id=row.study_id, trial_id=row.id, device_id=None, job=job)
    trainings.register_job(session, ctx, queued, f"#{row.number} {job.recipe}", job.recipe)
    return queued


def _stopped(session: Session, trial_id: str, job: TrainJob) -> JobRow | None:
    """The cancelled job of the same request, if it has a run."""
    query = job_rows.jobs_query(trial_id=trial_id, state=JobState.CANCELLED).where(JobRow.kind == "train")
    return next((row for row in session.scalars(query.join(TrainingRunRow, TrainingRunRow.job_id == JobRow.id))
                 if job_rows.job_of(row) == job), None)  # fmt: skip
