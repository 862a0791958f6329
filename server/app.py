"""``create_app`` assembles the coordinator. ``uvicorn --factory server.app:create_app`` serves it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI

from contracts.study import StudySpec
from nas.admission import check_study
from server.artifacts.endpoints import router as artifacts
from server.artifacts.storage import ArtifactFiles
from server.auth.endpoints import router as tokens
from server.clock import Clock, utc_now
from server.comparisons.endpoints import router as comparisons
from server.context import Context
from server.coordinator import Coordinator, RunStudy
from server.dashboard import mount_dashboard
from server.database import Database
from server.devices.endpoints import router as devices
from server.events.endpoints import router as events
from server.guard import LoopbackOnly
from server.handlers import install_handlers
from server.jobs.endpoints import router as jobs
from server.limits import RequestLimits
from server.loops import NasLoop
from server.meta.endpoints import router as meta
from server.migrations import upgrade
from server.registry.endpoints import router as registry
from server.responses import COMMON
from server.settings import Settings
from server.studies.endpoints import router as studies
from server.trainings.endpoints import router as trainings
from server.trials.endpoints import router as trials

ROUTERS = (studies, trials, trainings, comparisons, jobs, devices, artifacts, events, tokens, registry, meta)


def create_app(
    settings: Settings | None = None,
    *,
    run_study: RunStudy | None = None,
    check_spec: Callable[[StudySpec], None] | None = None,
    clock: Clock = utc_now,
    supervise: bool = True,
) -> FastAPI:
    """``run_study`` defaults to ``nas.study.run_study``, imported at first use because it imports torch; ``check_spec``
    to ``nas.admission.check_study``. ``supervise=False`` runs no study loops and no lease sweeps: for API tests."""
    settings = settings or Settings.from_environment()
    settings.var.mkdir(parents=True, exist_ok=True)
    database = Database(settings.url)
    if settings.migrate:
        upgrade(database.engine)
    ctx = Context(settings, database, ArtifactFiles(settings.artifacts_dir), clock, check_spec or check_study)
    supervisor = Coordinator(ctx, run_study or NasLoop(settings.var)) if supervise else NoSupervisor()
    app = FastAPI(title="hilnas", version="1", summary="Hardware-in-the-loop architecture search", lifespan=_lifespan)
    app.state.context, app.state.supervisor = ctx, supervisor
    install_handlers(app)
    _include(app)
    app.add_middleware(RequestLimits)
    if settings.auth == "local":
        app.add_middleware(LoopbackOnly)
    return app


def _include(app: FastAPI) -> None:
    api = APIRouter(prefix="/api/v1", responses=COMMON)
    for router in ROUTERS:
        api.include_router(router)
    app.include_router(api)
    mount_dashboard(app)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.supervisor.start()
    yield
    app.state.supervisor.close()
    app.state.context.database.dispose()


class NoSupervisor:
    """Launches nothing."""

    def start(self) -> None: ...

    def launch(self, study_id: str) -> None: ...

    def close(self) -> None: ...
