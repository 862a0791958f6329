"""Rows of runs and of their curves. A curve has at most MAX_POINTS lines per stage; beyond that every second line is
deleted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from contracts.training import CurveLine
from server.errors import NotFound
from server.hub import publish, training_topic
from server.tables import JobRow, TrainingCurveRow, TrainingRunRow

MAX_POINTS = 1024


def get_or_raise(session: Session, training_id: str) -> TrainingRunRow:
    row = session.get(TrainingRunRow, training_id)
    if row is None:
        raise NotFound(f"there is no training {training_id!r}; GET /api/v1/trainings lists them")
    return row


def touch(session: Session, now: datetime, row: TrainingRunRow) -> None:
    """Notifies the watchers of the run that it changed."""
    row.revision += 1
    row.updated_at = now
    publish(session, training_topic(row.id))


def touch_job(session: Session, now: datetime, job: JobRow) -> None:
    """The same for a change of the state of its job."""
    row = session.get(TrainingRunRow, job.id) if job.kind == "train" else None
    if row is not None:
        touch(session, now, row)


def newest_first(
    session: Session, study_id: str | None, trial_id: str | None, limit: int, offset: int
) -> Sequence[TrainingRunRow]:
    query = select(TrainingRunRow).order_by(TrainingRunRow.created_at.desc(), TrainingRunRow.id)
    if trial_id is not None:
        query = query.where(TrainingRunRow.trial_id == trial_id)
    if study_id is not None:
        query = query.join(JobRow, JobRow.id == TrainingRunRow.job_id).where(JobRow.study_id == study_id)
    return session.scalars(query.limit(limit).offset(offset)).all()


def add_lines(session: Session, row: TrainingRunRow, lines: Sequence[CurveLine]) -> None:
    """The last line of a step counts. A thinned curve keeps only multiples of its stride."""
    strides = dict(row.strides)
    by_stage: defaultdict[str, dict[int, dict[str, float]]] = defaultdict(dict)
    for line in lines:
        if line.step % strides.get(line.stage, 1) == 0:
            by_stage[line.stage][line.step] = line.values
    for stage, steps in by_stage.items():
        _replace(session, row.id, stage, steps)
        while _count(session, row.id, stage) > MAX_POINTS:
            strides[stage] = 2 * strides.get(stage, 1)
            mine = (TrainingCurveRow.training_id == row.id, TrainingCurveRow.stage == stage)
            session.execute(delete(TrainingCurveRow).where(*mine, TrainingCurveRow.step % strides[stage] != 0))
    row.strides = strides


def _replace(session: Session, training_id: str, stage: str, steps: dict[int, dict[str, float]]) -> None:
    """A resumed run repeats some steps: lines at or after its first one belong to the previous run."""
    mine = (TrainingCurveRow.training_id == training_id, TrainingCurveRow.stage == stage)
    session.execute(delete(TrainingCurveRow).where(*mine, TrainingCurveRow.step >= min(steps)))
    session.add_all(
        TrainingCurveRow(training_id=training_id, stage=stage, step=step, values=values)
        for step, values in steps.items()
    )
    session.flush()


def _count(session: Session, training_id: str, stage: str) -> int:
    query = select(func.count()).select_from(TrainingCurveRow)
    query = query.where(TrainingCurveRow.training_id == training_id, TrainingCurveRow.stage == stage)
    return session.scalar(query) or 0


def curve_rows(session: Session, training_id: str, stage: str | None, after: int) -> Sequence[TrainingCurveRow]:
    query = select(TrainingCurveRow).where(TrainingCurveRow.training_id == training_id, TrainingCurveRow.step > after)
    if stage is not None:
        query = query.where(TrainingCurveRow.stage == stage)
    return session.scalars(query.order_by(TrainingCurveRow.stage, TrainingCurveRow.step)).all()
