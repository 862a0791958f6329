"""What every request needs, created once by ``create_app`` and passed inward."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Protocol

from fastapi import Depends
from starlette.requests import HTTPConnection

from contracts.study import StudySpec
from server.artifacts.storage import ArtifactFiles
from server.clock import Clock, utc_now
from server.database import Database
from server.hub import Hub
from server.settings import Settings


class Supervisor(Protocol):
    """Runs the loops of studies (``server.coordinator.Coordinator``)."""

    def launch(self, study_id: str) -> None: ...


@dataclass(frozen=True)
class Context:
    """``check_spec`` raises InvalidConfig for a study that cannot start, before it is stored."""

    settings: Settings
    database: Database
    artifacts: ArtifactFiles
    clock: Clock = utc_now
    check_spec: Callable[[StudySpec], None] = field(default=lambda spec: None)

    @property
    def hub(self) -> Hub:
        return self.database.hub

    def now(self) -> datetime:
        return self.clock()


def new_id(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(8)}"


def _context(connection: HTTPConnection) -> Context:
    context: Context = connection.app.state.context
    return context


def _supervisor(connection: HTTPConnection) -> Supervisor:
    supervisor: Supervisor = connection.app.state.supervisor
    return supervisor


Ctx = Annotated[Context, Depends(_context)]
Loops = Annotated[Supervisor, Depends(_supervisor)]
