"""A finished measurement: compared with the device's peers, stored as a row of its trial, and measured again when the
peers contradict the device of a trained program."""

from __future__ import annotations

from sqlalchemy.orm import Session

from contracts.job import JobResult, MeasureJob
from contracts.measurement import Verdict
from nas.targets import DeviceGroup
from server.context import Context
from server.devices import peers
from server.jobs import queue, repository
from server.tables import DeviceRow, JobRow
from server.trials import repository as trials

MAX_TRAINED_SESSIONS = 3  # of a trained program, while peers contradict each other


def measurement_finished(session: Session, ctx: Context, row: JobRow, result: JobResult) -> None:
    assert result.measurement is not None
    device = session.get_one(DeviceRow, row.leased_by)
    stored = peers.compare(session, ctx, device, row, result.measurement)
    row.verdict = stored.verdict
    trials.add_measurement(session, ctx.now(), row, stored)
    if stored.verdict == Verdict.UNLIKE_TWIN and row.form == "trained":
        _measure_trained_again(session, ctx, row)


def _measure_trained_again(session: Session, ctx: Context, row: JobRow) -> None:
    """No study waits for this row, so the next session on another device is queued here."""
    job = repository.job_of(row)
    if not isinstance(job, MeasureJob) or row.pool is None or job.attempt + 1 >= MAX_TRAINED_SESSIONS:
        return
    again = job.model_copy(update={"attempt": job.attempt + 1})
    queue.submit_to(session, ctx, study_id=row.study_id, trial_id=row.trial_id, group=DeviceGroup(row.target, row.pool),
                    job=again, avoid=row.leased_by or "")  # fmt: skip
