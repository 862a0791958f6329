"""/registry: every name that a request may use, so that no page or tool keeps its own list."""

from __future__ import annotations

from fastapi import APIRouter

from server.auth.dependencies import User
from server.context import Ctx
from server.registry import service
from server.registry.schemas import RegistryView

router = APIRouter(tags=["registry"])


@router.get("/registry")
def get_registry(ctx: Ctx, user: User) -> RegistryView:
    """Mixers, spaces, samplers, quality estimators, quantizations, backends, protocols, device kinds and metrics, those
    of plugins included; and the recipes of enrolled trainers."""
    with ctx.database.read() as session:
        return service.view(session)
