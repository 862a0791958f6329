"""Receiving an upload in pieces. One writer per artifact; what arrived before a cut connection is kept."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog
from anyio.to_thread import run_sync

from foundation.errors import InvalidConfig
from server.artifacts import repository
from server.artifacts.schemas import ArtifactView, PartialUpload
from server.artifacts.storage import BLOCK_BYTES, require_digest
from server.context import Context
from server.errors import Conflict, RangeNotSatisfiable

log = structlog.get_logger(__name__)
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(frozen=True)
class Piece:
    """Bytes ``start`` up to ``end`` (exclusive) of ``total``; a body without Content-Range has no known end."""

    start: int
    end: int | None
    total: int | None


def parse_content_range(header: str | None) -> Piece:
    if header is None:
        return Piece(0, None, None)
    match = CONTENT_RANGE.fullmatch(header.strip())
    first, last, total = (int(group) for group in match.groups()) if match else (0, -1, 0)
    if not first <= last < total:
        raise InvalidConfig(f"Content-Range must read `bytes <first>-<last>/<total>`, got {header!r}")
    return Piece(first, last + 1, total)


async def receive(
    ctx: Context, sha256: str, piece: Piece, body: AsyncIterator[bytes], media_type: str
) -> ArtifactView | PartialUpload:
    """Appends ``body`` and, with the last byte, verifies and keeps the artifact."""
    path = await run_sync(ctx.artifacts.find, require_digest(sha256))
    if path is not None:
        return ArtifactView(sha256=sha256, num_bytes=path.stat().st_size, media_type=media_type)
    with ctx.artifacts.sole_writer(sha256):
        if piece.end is None:
            await run_sync(ctx.artifacts.discard, sha256)
        _require_offset(piece, ctx.artifacts.offset(sha256))
        await _append(ctx, sha256, piece, body)
        offset = ctx.artifacts.offset(sha256)
        if piece.total is not None and offset < piece.total:
            return PartialUpload(sha256=sha256, offset=offset, num_bytes=piece.total)
        await run_sync(ctx.artifacts.finish, sha256)
    return await run_sync(_record, ctx, sha256, media_type)


def _require_offset(piece: Piece, offset: int) -> None:
    if piece.start != offset:
        raise RangeNotSatisfiable(
            f"the next byte expected is {offset}, this piece starts at {piece.start}; continue from there",
            code="wrong_offset",
            headers={"Upload-Offset": str(offset)},
        )


async def _append(ctx: Context, sha256: str, piece: Piece, body: AsyncIterator[bytes]) -> None:
    """Writes in blocks of about a MiB, off the event loop. A longer body than announced is refused."""
    left = None if piece.end is None else piece.end - piece.start
    block = bytearray()
    try:
        async for chunk in body:
            if left is not None:
                left -= len(chunk)
                if left < 0:
                    raise Conflict("the body is longer than its Content-Range says", code="wrong_length")
            block += chunk
            if len(block) >= BLOCK_BYTES:
                taken, block = bytes(block), bytearray()
                await run_sync(ctx.artifacts.append, sha256, taken)
    finally:
        if block:  # the connection broke: keep what came
            ctx.artifacts.append(sha256, bytes(block))
    if left is None and not ctx.artifacts.partial_path(sha256).exists():
        ctx.artifacts.append(sha256, b"")  # an empty file is an artifact too


def _record(ctx: Context, sha256: str, media_type: str) -> ArtifactView:
    num_bytes = ctx.artifacts.path(sha256).stat().st_size
    with ctx.database.write() as session:
        repository.record(session, sha256, num_bytes, media_type, ctx.now())
    log.info("artifact_stored", sha256=sha256, num_bytes=num_bytes)
    return ArtifactView(sha256=sha256, num_bytes=num_bytes, media_type=media_type)
