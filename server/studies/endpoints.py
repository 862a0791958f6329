"""/studies: start, watch, stop, resume, and the front."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Body, Header, Query, Response
from pydantic import AfterValidator

from contracts.states import TrialState
from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig
from search_space.presets import preset
from server.auth.dependencies import User
from server.context import Ctx, Loops
from server.hub import publish, work_topic
from server.responses import CONFLICT, NOT_FOUND
from server.studies import repository, service
from server.studies.schemas import EXAMPLE, EnqueueBody, ExtendBody, Front, SpecBody, StudySummary, StudyView
from server.trials import repository as trials
from server.trials.schemas import TrialView


def _in_utc(moment: datetime | None) -> datetime | None:
    """A moment without a time zone is read as UTC; one outside the calendar in UTC is refused."""
    if moment is None:
        return None
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("this moment lies outside the years 1 to 9999 in UTC") from None


router = APIRouter(prefix="/studies", tags=["studies"])


@router.post("", status_code=201, responses=CONFLICT)
def create_study(
    spec: Annotated[SpecBody, Body(examples=[EXAMPLE])],
    response: Response,
    ctx: Ctx,
    loops: Loops,
    user: User,
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> StudyView:
    """Starts a search. With an Idempotency-Key, repeating the request returns the same study (200)."""
    with ctx.database.write() as session:
        row, is_new = service.create(session, ctx, spec, idempotency_key)
        view = service.view(session, ctx, row)
    if is_new:
        loops.launch(row.id)
    response.status_code = 201 if is_new else 200
    return view


@router.get("")
def list_studies(ctx: Ctx, user: User) -> list[StudySummary]:
    """Newest first."""
    with ctx.database.read() as session:
        return [service.summary(session, row) for row in repository.newest_first(session)]


@router.get("/{study_id}", responses=NOT_FOUND)
def get_study(study_id: str, ctx: Ctx, user: User) -> StudyView:
    """State, counts, time left, front size, hypervolume, and what blocks progress."""
    with ctx.database.read() as session:
        return service.view(session, ctx, repository.get_or_raise(session, study_id))


@router.post("/{study_id}/stop", responses=NOT_FOUND | CONFLICT)
def stop_study(study_id: str, ctx: Ctx, user: User) -> StudyView:
    """Stops after the current measurements. Stopping again changes nothing."""
    with ctx.database.write() as session:
        return service.view(session, ctx, service.stop(session, ctx, study_id))


@router.post("/{study_id}/resume", responses=NOT_FOUND | CONFLICT)
def resume_study(study_id: str, ctx: Ctx, loops: Loops, user: User) -> StudyView:
    """Continues a stopped or failed study; everything measured before counts."""
    with ctx.database.write() as session:
        view = service.view(session, ctx, service.resume(session, ctx, study_id))
    loops.launch(study_id)
    return view


@router.post("/{study_id}/extend", responses=NOT_FOUND | CONFLICT)
def extend_study(study_id: str, body: ExtendBody, ctx: Ctx, loops: Loops, user: User) -> StudyView:
    """Allows more candidates. A study that ended goes on, and everything measured before counts."""
    with ctx.database.write() as session:
        view = service.view(session, ctx, service.extend(session, ctx, study_id, body.trials))
    loops.launch(study_id)
    return view


@router.post("/{study_id}/enqueue", status_code=201, responses=NOT_FOUND | CONFLICT)
def enqueue_candidate(study_id: str, body: EnqueueBody, ctx: Ctx, user: User) -> TrialView:
    """Adds a known architecture, which is measured before the sampler's next proposals."""
    if (body.preset is None) == (body.arch is None):
        raise InvalidConfig("give either a preset or an arch")
    arch = preset(body.preset) if body.preset is not None else ArchConfig.from_dict(body.arch or {})
    with ctx.database.write() as session:
        row = service.enqueue(session, ctx, study_id, arch, body.name or body.preset or "")
        publish(session, work_topic(study_id))
        return trials.views(session, [row])[0]


@router.get("/{study_id}/trials", responses=NOT_FOUND)
def list_trials(
    study_id: str,
    ctx: Ctx,
    user: User,
    state: TrialState | None = None,
    since: Annotated[
        datetime | None, AfterValidator(_in_utc), Query(description="only trials changed at or after this moment")
    ] = None,
) -> list[TrialView]:
    """Sorted by number. Measurements leave out raw events, environment and block times (see /trials/{id})."""
    with ctx.database.read() as session:
        repository.get_or_raise(session, study_id)
        return trials.views(session, trials.rows_of(session, study_id, since, [state] if state else None), lean=True)


@router.get("/{study_id}/front", responses=NOT_FOUND)
def get_front(
    study_id: str,
    ctx: Ctx,
    user: User,
    target: Annotated[str | None, Query(description="one target's front; default: the joint front")] = None,
) -> Front:
    """The non-dominated complete trials with their intervals; the knee is marked. Where no candidate meets the budgets,
    the nearest misses."""
    with ctx.database.read() as session:
        study = repository.record_of(repository.get_or_raise(session, study_id))
        return service.front(session, study, target, misses=True)
