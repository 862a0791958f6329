"""Results of agents: each counts once, and the handler of its kind starts what follows."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from sqlalchemy.orm import Session

from contracts.job import JobReply, JobResult
from contracts.states import JobState
from foundation.errors import InvalidConfig
from server.auth.service import Agent
from server.context import Context, new_id
from server.events.repository import emit
from server.hub import publish, work_topic
from server.jobs import queue, repository
from server.jobs.measurement_finished import measurement_finished
from server.jobs.training_finished import training_finished
from server.tables import JobRow, LateResultRow
from server.trainings import repository as trainings

log = structlog.get_logger(__name__)
Handler = Callable[[Session, Context, JobRow, JobResult], None]
HANDLERS: dict[str, tuple[str, Handler]] = {  # kind of job -> field of its result, handler
    "measure": ("measurement", measurement_finished),
    "train": ("training", training_finished),
}


def finish(session: Session, ctx: Context, agent: Agent, job_id: str, result: JobResult) -> JobReply:
    """Counts a result once. A result under an older lease is kept in ``late_results`` and changes nothing."""
    row = queue.get_or_raise(session, job_id)
    _require_one_outcome(row, result)
    condition = repository.held(job_id, result.fencing_token, agent.device_id)
    if result.retry and row.attempts + 1 < ctx.settings.max_attempts:
        done = queue.requeue(session, ctx, condition, _error_of(result), result.error_code or "")
        if done is not None and result.measurement is not None:
            _keep_late(session, ctx, agent, job_id, result, "retried")
    else:
        done = _end(session, ctx, condition, row, result)
    return JobReply(accepted=True) if done is not None else _not_held(session, ctx, agent, job_id, result)


def _require_one_outcome(row: JobRow, result: JobResult) -> None:
    given = [name for name in ("measurement", "training", "error") if getattr(result, name) is not None]
    if len(given) != 1:
        raise InvalidConfig(f"a result holds one of measurement, training and error, got {', '.join(given) or 'none'}")
    expected, _ = HANDLERS[row.kind]
    if given[0] not in (expected, "error"):
        raise InvalidConfig(f"job {row.id} is a {row.kind} job: its result is a {expected} or an error, got {given[0]}")


def _error_of(result: JobResult) -> str:
    if result.measurement is not None:
        return result.measurement.reason or f"the measurement was {result.measurement.verdict}"
    return result.error or ""


def _not_held(session: Session, ctx: Context, agent: Agent, job_id: str, result: JobResult) -> JobReply:
    session.expire_all()
    row = queue.get_or_raise(session, job_id)
    same_lease = row.fencing_token == result.fencing_token and row.leased_by == agent.device_id
    if same_lease and row.state in (JobState.DONE, JobState.FAILED):
        return JobReply(accepted=True, reason="already_done")
    _keep_late(session, ctx, agent, job_id, result, "stale_token")
    return JobReply(accepted=False, reason="stale_token")


def _keep_late(session: Session, ctx: Context, agent: Agent, job_id: str, result: JobResult, reason: str) -> None:
    """Keeps at most ``MAX_LATE_RESULTS`` per job: an agent may send the same result over and over."""
    if repository.count_late(session, job_id) >= repository.MAX_LATE_RESULTS:
        log.warning("late_result_dropped", job_id=job_id, fencing_token=result.fencing_token)
        return
    session.add(
        LateResultRow(
            id=new_id("late"), job_id=job_id, fencing_token=result.fencing_token, device_id=agent.device_id,
            reason=reason, body=result.model_dump(mode="json"), received_at=ctx.now(),
        )
    )  # fmt: skip
    log.info("late_result_kept", job_id=job_id, fencing_token=result.fencing_token, reason=reason)


def _end(
    session: Session, ctx: Context, condition: repository.Condition, row: JobRow, result: JobResult
) -> JobRow | None:
    state = JobState.DONE if result.error is None else JobState.FAILED
    verdict = result.measurement.verdict if result.measurement else ""
    values = {"state": state, "finished_at": ctx.now(), "lease_expires_at": None, "verdict": verdict}
    if result.error is not None:
        values |= {"error": result.error, "error_code": result.error_code or "job_failed"}
        if queue.is_unwanted(session, row):  # stopped on our own request: a resumed study submits it again
            values |= {"state": JobState.CANCELLED, "submit_key": None}
    done = repository.change(session, condition, **values)
    if done is not None:
        _handle(session, ctx, done, result)
    return done


def _handle(session: Session, ctx: Context, row: JobRow, result: JobResult) -> None:
    if result.error is None:
        _, handler = HANDLERS[row.kind]
        handler(session, ctx, row, result)
    publish(session, work_topic(row.study_id))
    trainings.touch_job(session, ctx.now(), row)
    emit(session, ctx.now(), row.study_id, f"job_{'finished' if row.state == JobState.DONE else row.state}",
         job_id=row.id, trial_id=row.trial_id, device_id=row.leased_by, form=row.form, verdict=row.verdict,
         error=row.error)  # fmt: skip
