"""/devices and /agents/enrol: the devices that measure, and how one enrols."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body

from contracts.job import Credential, Enrolment
from server.auth.dependencies import User
from server.context import Context, Ctx
from server.devices import repository, service
from server.devices.schemas import DeviceView, DrainRequest, EnrolmentToken, EnrolmentTokenRequest
from server.responses import CONFLICT, GONE, NOT_FOUND

ENROLMENT = {
    "token": "hle_...",
    "facts": {
        "kind": "android", "name": "pixel-9-desk-4", "model": "Pixel 9 (Tensor G4)", "arch": "aarch64", "cores": 8,
        "memory_bytes": 12_884_901_888, "os": "Android 16", "cpu_features": ["dotprod", "i8mm"],
    },
    "serves": ["measure"],
}  # fmt: skip

router = APIRouter(tags=["devices"])


@router.post("/devices/tokens", status_code=201)
def create_enrolment_token(ctx: Ctx, user: User, request: EnrolmentTokenRequest | None = None) -> EnrolmentToken:
    """Creates a short-lived token for one enrolment. It is shown only in this response."""
    with ctx.database.write() as session:
        return service.create_enrolment_token(session, ctx, request or EnrolmentTokenRequest())


@router.post("/agents/enrol", status_code=201, responses=CONFLICT | GONE)
def enrol(enrolment: Annotated[Enrolment, Body(examples=[ENROLMENT])], ctx: Ctx) -> Credential:
    """Trades an enrolment token for a credential. The same hardware under the same name keeps its device id."""
    with ctx.database.write() as session:
        return service.enrol(session, ctx, enrolment)


@router.get("/devices")
def list_devices(ctx: Ctx, user: User) -> list[DeviceView]:
    """Sorted by name, each with its current job and the drift of its canary."""
    with ctx.database.read() as session:
        return service.views(session, ctx)


@router.get("/devices/{device_id}", responses=NOT_FOUND)
def get_device(device_id: str, ctx: Ctx, user: User) -> DeviceView:
    with ctx.database.read() as session:
        row = repository.get_or_raise(session, device_id)
        return service.view(session, ctx, row, repository.current_jobs(session).get(device_id))


@router.post("/devices/{device_id}/drain", responses=NOT_FOUND)
def drain_device(device_id: str, ctx: Ctx, user: User, request: DrainRequest | None = None) -> DeviceView:
    """Lets the device finish its job and gives it no more; ``{"draining": false}`` returns it to service."""
    return _set_draining(ctx, device_id, (request or DrainRequest()).draining)


@router.post("/devices/{device_id}/resume", responses=NOT_FOUND)
def resume_device(device_id: str, ctx: Ctx, user: User) -> DeviceView:
    """Returns a drained device to service, and lifts the quarantine of one whose canary its peers contradicted."""
    return _set_draining(ctx, device_id, False)


def _set_draining(ctx: Context, device_id: str, draining: bool) -> DeviceView:
    with ctx.database.write() as session:
        row = service.drain(session, ctx, device_id, draining)
        return service.view(session, ctx, row, repository.current_jobs(session).get(device_id))
