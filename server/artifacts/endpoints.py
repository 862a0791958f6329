"""/artifacts/{sha256}: streamed both ways, resumable both ways (Range down, Content-Range up)."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import FileResponse

from server.artifacts import repository, service
from server.artifacts.schemas import ArtifactView, PartialUpload
from server.auth.dependencies import Anyone
from server.context import Ctx
from server.responses import CONFLICT, DISK_FULL, NOT_FOUND, RANGE, TOO_LARGE

MEDIA_TYPE = r"^[\x20-\x7e]+$"
LENGTH = re.compile(r"[0-9]{1,18}")

router = APIRouter(prefix="/artifacts", tags=["artifacts"])


@router.head("/{sha256}", responses=NOT_FOUND)
def probe_artifact(sha256: str, ctx: Ctx, caller: Anyone) -> Response:
    """200 with Content-Length when it is complete; 404 with Upload-Offset (bytes received so far) when it is not."""
    path = ctx.artifacts.find(sha256)
    if path is None:
        return Response(status_code=404, headers={"Upload-Offset": str(ctx.artifacts.offset(sha256))})
    num_bytes = str(path.stat().st_size)
    headers = {"Content-Length": num_bytes, "Accept-Ranges": "bytes", "ETag": f'"{sha256}"'}
    return Response(headers=headers)


@router.get("/{sha256}", responses=NOT_FOUND | RANGE, response_class=FileResponse)
def get_artifact(
    sha256: str,
    ctx: Ctx,
    caller: Anyone,
    byte_range: Annotated[str | None, Header(alias="Range", max_length=200, description="bytes=<first>-<last>")] = None,
) -> FileResponse:
    """Streams the file; a Range header is answered with 206 and only those bytes."""
    path = ctx.artifacts.find_or_raise(sha256)
    if byte_range is not None:
        service.check_range(byte_range, path.stat().st_size)
    with ctx.database.read() as session:
        media_type = repository.media_type_of(session, sha256)
    headers = {"ETag": f'"{sha256}"', "Cache-Control": "private, max-age=31536000, immutable"}
    return FileResponse(path, media_type=media_type, headers=headers)


@router.put(
    "/{sha256}",
    response_model=ArtifactView | PartialUpload,
    responses=NOT_FOUND | CONFLICT | RANGE | TOO_LARGE | DISK_FULL,
)
async def put_artifact(
    sha256: str,
    request: Request,
    response: Response,
    ctx: Ctx,
    caller: Anyone,
    content_range: Annotated[str | None, Header()] = None,
    content_type: Annotated[str, Header(max_length=120, pattern=MEDIA_TYPE)] = repository.DEFAULT_MEDIA_TYPE,
) -> ArtifactView | PartialUpload:
    """Takes the complete file, or with Content-Range the next piece of it. The digest is checked after the last byte:
    202 send the next piece, 201 stored, 200 stored before, 416 continue at Upload-Offset, 507 the disk is full."""
    known = ctx.artifacts.find(sha256) is not None
    piece = service.parse_content_range(content_range)
    announced = request.headers.get("content-length", "")
    length = int(announced) if LENGTH.fullmatch(announced) else None
    result = await service.receive(ctx, sha256, piece, request.stream(), content_type, length)
    if isinstance(result, PartialUpload):
        response.status_code = 202
        response.headers["Upload-Offset"] = str(result.offset)
    elif not known:
        response.status_code = 201
    return result
