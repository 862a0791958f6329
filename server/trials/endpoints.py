"""/trials: one candidate, its raw measurements, its trainings."""

from __future__ import annotations

from fastapi import APIRouter

from server.auth.dependencies import User
from server.context import Ctx
from server.jobs.schemas import JobView
from server.jobs.views import job_view
from server.responses import NOT_FOUND
from server.trials import repository, service
from server.trials.schemas import MeasurementView, TrainingView, TrainRequest, TrialView

router = APIRouter(prefix="/trials", tags=["trials"], responses=NOT_FOUND)


@router.get("/{trial_id}")
def get_trial(trial_id: str, ctx: Ctx, user: User) -> TrialView:
    """One trial with its measurements; raw events are under /measurements."""
    with ctx.database.read() as session:
        return repository.views(session, [repository.get_or_raise(session, trial_id)])[0]


@router.get("/{trial_id}/measurements")
def list_measurements(trial_id: str, ctx: Ctx, user: User) -> list[MeasurementView]:
    """Every measurement row with the runner's raw lines, in time order."""
    with ctx.database.read() as session:
        repository.get_or_raise(session, trial_id)
        return [
            MeasurementView(
                id=row.id,
                device_id=row.device_id,
                form=row.form,
                job_id=row.job_id,
                reused=row.job_id is None,
                created_at=row.created_at,
                measurement=measurement,
            )
            for row, measurement in repository.measurements_with_events(session, trial_id)
        ]


@router.get("/{trial_id}/trainings")
def list_trainings(trial_id: str, ctx: Ctx, user: User) -> list[TrainingView]:
    """Results of trainings of this trial."""
    with ctx.database.read() as session:
        repository.get_or_raise(session, trial_id)
        return [
            TrainingView(
                id=row.id, job_id=row.job_id, created_at=row.created_at, training=repository.training_of(row)
            )
            for row in repository.trainings(session, trial_id)
        ]


@router.post("/{trial_id}/train", status_code=201)
def train_trial(trial_id: str, request: TrainRequest, ctx: Ctx, user: User) -> JobView:
    """Queues a training job; repeating the request returns the same job."""
    with ctx.database.write() as session:
        row = service.train(session, ctx, trial_id, request)
        return job_view(session, row)
