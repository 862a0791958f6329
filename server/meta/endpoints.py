"""/health and /metrics (the table of what each number means, not Prometheus)."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy import text

from contracts.metrics import METRICS, Metric
from server.auth.dependencies import User
from server.context import Ctx

router = APIRouter(tags=["meta"])


class Health(BaseModel):
    status: Literal["ok"]
    database: str
    auth: Literal["local", "tokens"]


@router.get("/health")
def health(ctx: Ctx) -> Health:
    """Responds once the database does. Needs no token."""
    with ctx.database.read() as session:
        session.execute(text("SELECT 1"))
    return Health(status="ok", database=ctx.database.engine.dialect.name, auth=ctx.settings.auth)


@router.get("/metrics")
def list_metrics(user: User) -> list[Metric]:
    """Every metric with unit, direction, source and definition; a key is ``name@context`` if it takes a context."""
    return list(METRICS.values())
