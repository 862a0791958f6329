"""/registry: everything that a request may name, so that no page or tool keeps a list of its own."""

from __future__ import annotations

from fastapi import APIRouter

from server.auth.dependencies import User
from server.context import Ctx
from server.registry import service
from server.registry.schemas import RegistryView

router = APIRouter(tags=["registry"])


@router.get("/registry")
def get_registry(ctx: Ctx, user: User) -> RegistryView:
    """Mixers, spaces, samplers, quality estimators, quantizations, backends, protocols, kinds of devices and metrics
    known here, those of plugins included; and the recipes of enrolled trainers."""
    with ctx.database.read() as session:
        return service.view(session)
