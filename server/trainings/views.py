"""Training runs as the API shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from contracts.training import StageProgress
from server.context import Context
from server.readable import finite, readable, unreadable
from server.tables import DeviceRow, JobRow, TrainingCurveRow, TrainingResultRow, TrainingRunRow, TrialRow
from server.trainings.schemas import Curve, TrainingSummary, TrainingView
from server.trainings.service import state_of

SAME = ("id", "name", "recipe", "job_id", "trial_id", "revision", "created_at", "updated_at")


def summary(session: Session, ctx: Context, row: TrainingRunRow) -> TrainingSummary:
    return TrainingSummary(**_fields(session, ctx, row))


def view(session: Session, ctx: Context, row: TrainingRunRow) -> TrainingView:
    result = session.scalars(select(TrainingResultRow).where(TrainingResultRow.job_id == row.job_id)).first()
    shown = {k: v for k, v in result.body.items() if k not in ("losses", "measure")} if result else None
    stages = [_stage(stage) for stage in row.stages]
    return TrainingView(**_fields(session, ctx, row), stages=stages, result=shown)


def _fields(session: Session, ctx: Context, row: TrainingRunRow) -> dict[str, Any]:
    fields: dict[str, Any] = {name: getattr(row, name) for name in SAME}
    job = session.get(JobRow, row.job_id) if row.job_id else None
    holder = session.get(DeviceRow, job.leased_by) if job and job.leased_by else None
    trial = session.get(TrialRow, row.trial_id) if row.trial_id else None
    done = sum(stage.state == "done" for stage in map(_stage, row.stages))
    failed = row.message if row.state == "failed" and job is None else ""
    return fields | {
        "state": state_of(session, ctx, row), "study_id": job.study_id if job else None,
        "trial_number": trial.number if trial else None, "where": holder.name if holder else None,
        "share": row.share if row.share is not None or job is None else job.progress,
        "message": row.message or (job.message if job else ""), "error": job.error if job else failed,
        "attempts": job.attempts if job else 0, "num_stages": len(row.stages), "num_done": done,
        "finished_at": job.finished_at if job else row.finished_at,
    }  # fmt: skip


def _stage(stored: Any) -> StageProgress:
    found, left_out = readable(StageProgress, stored if isinstance(stored, dict) else {}, {"name": "unnamed"})
    noted = {"message": f"{found.message} {unreadable(left_out)}".strip()} if left_out else {}
    return found.model_copy(update=noted)


def curves(rows: Sequence[TrainingCurveRow]) -> list[Curve]:
    """Columns instead of lines, sorted by stage name; the page knows the order of the chain."""
    found: dict[str, list[TrainingCurveRow]] = {}
    for row in rows:
        found.setdefault(row.stage, []).append(row)
    return [_curve(stage, lines) for stage, lines in found.items()]


def _curve(stage: str, lines: Sequence[TrainingCurveRow]) -> Curve:
    names = dict.fromkeys(name for line in lines for name in line.values)
    columns = {name: [finite(line.values.get(name)) for line in lines] for name in names}
    return Curve(stage=stage, steps=[line.step for line in lines], columns=columns)
