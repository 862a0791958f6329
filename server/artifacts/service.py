"""Receiving an upload in pieces. One writer per artifact; bytes that arrived before a lost connection are kept."""

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
from server.errors import Conflict, RangeNotSatisfiable, StoreFull, TooLarge, disk_full

log = structlog.get_logger(__name__)
CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
BYTE_RANGE = re.compile(r"([0-9]{1,18})-([0-9]{0,18})|()-([0-9]{1,18})")
RESERVE_BYTES = 256 << 20  # of the disk, for the database


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
        raise InvalidConfig(f"Content-Range must read `bytes <first>-<last>/<total>`, got {header[:80]!r}")
    return Piece(first, last + 1, total)


def check_range(header: str, num_bytes: int) -> None:
    """Raises InvalidConfig for a malformed Range, RangeNotSatisfiable for bytes that the file does not have."""
    parts = [part.strip() for part in header.removeprefix("bytes=").split(",")]
    matches = [BYTE_RANGE.fullmatch(part) for part in parts]
    if not header.startswith("bytes=") or not all(matches):
        raise InvalidConfig(f"Range must read `bytes=<first>-<last>`, got {header[:80]!r}")
    for match in matches:
        assert match is not None
        first, last = match[1] or "", match[2] or match[4] or ""
        if first and last and int(first) > int(last):
            raise InvalidConfig(f"Range must name the first byte before the last, got {header[:80]!r}")
        if int(first or 0) >= num_bytes or (not first and int(last) == 0):
            raise RangeNotSatisfiable(
                f"the file has {num_bytes} bytes, none of them in {header[:80]!r}",
                headers={"Content-Range": f"bytes */{num_bytes}"},
            )


async def receive(
    ctx: Context, sha256: str, piece: Piece, body: AsyncIterator[bytes], media_type: str, announced: int | None = None
) -> ArtifactView | PartialUpload:
    """Appends ``body`` and, after the last byte, verifies and keeps the artifact. ``announced`` is the length of a body
    without Content-Range, if its sender gave one."""
    path = await run_sync(ctx.artifacts.find, require_digest(sha256))
    if path is not None:
        return ArtifactView(sha256=sha256, num_bytes=path.stat().st_size, media_type=media_type)
    with ctx.artifacts.sole_writer(sha256):
        if piece.end is None:
            await run_sync(ctx.artifacts.discard, sha256)
        room = await run_sync(_room, ctx, sha256, piece.total if piece.total is not None else announced)
        _require_offset(piece, ctx.artifacts.offset(sha256))
        await _append(ctx, sha256, piece, body, room)
        offset = ctx.artifacts.offset(sha256)
        if piece.total is not None and offset < piece.total:
            return PartialUpload(sha256=sha256, offset=offset, num_bytes=piece.total)
        await run_sync(ctx.artifacts.finish, sha256)
    return await run_sync(_record, ctx, sha256, media_type)


def _room(ctx: Context, sha256: str, announced: int | None) -> int:
    """How many more bytes of this file are accepted. Raises TooLarge, StoreFull or DiskFull when the announced length
    exceeds the limit of a file, the store or the disk."""
    limits, received = ctx.settings, ctx.artifacts.offset(sha256)
    with ctx.database.read() as session:
        stored = repository.total_bytes(session)
    per_file = limits.max_artifact_bytes - received
    store = limits.max_store_bytes - stored - ctx.artifacts.partial_bytes()
    disk = ctx.artifacts.free_bytes() - RESERVE_BYTES
    missing = max(0, announced - received) if announced is not None else 0
    if missing > per_file:
        raise TooLarge(
            f"an artifact may have at most {limits.max_artifact_bytes} bytes, {announced} were announced;"
            " raise HILNAS_MAX_ARTIFACT_BYTES to allow more"
        )
    if missing > store:
        raise StoreFull(
            f"the coordinator keeps at most {limits.max_store_bytes} bytes of artifacts and {missing} more do not fit;"
            " raise HILNAS_MAX_STORE_BYTES to allow more"
        )
    if missing > disk:
        raise disk_full(f"artifact {sha256[:12]}")
    return min(per_file, store, disk)


def _require_offset(piece: Piece, offset: int) -> None:
    if piece.start != offset:
        raise RangeNotSatisfiable(
            f"the next expected byte is {offset}, but this piece starts at {piece.start}; continue at {offset}",
            code="wrong_offset",
            headers={"Upload-Offset": str(offset)},
        )


async def _append(ctx: Context, sha256: str, piece: Piece, body: AsyncIterator[bytes], room: int) -> None:
    """Writes in blocks of about a MiB, off the event loop. A longer body than announced, or than there is ``room``
    for, is refused."""
    left = None if piece.end is None else piece.end - piece.start
    block = bytearray()
    try:
        async for chunk in body:
            room -= len(chunk)
            if room < 0:
                block.clear()
                await run_sync(ctx.artifacts.discard, sha256)
                raise TooLarge("this artifact is larger than the space left for artifacts; nothing of it was kept")
            if left is not None:
                left -= len(chunk)
                if left < 0:
                    raise Conflict("the body is longer than its Content-Range says", code="wrong_length")
            block += chunk
            if len(block) >= BLOCK_BYTES:
                taken, block = bytes(block), bytearray()
                await run_sync(ctx.artifacts.append, sha256, taken)
    finally:
        if block:  # the connection broke: keep what arrived
            ctx.artifacts.append(sha256, bytes(block))
    if left is None and not ctx.artifacts.partial_path(sha256).exists():
        ctx.artifacts.append(sha256, b"")  # an empty file is an artifact too


def _record(ctx: Context, sha256: str, media_type: str) -> ArtifactView:
    num_bytes = ctx.artifacts.path(sha256).stat().st_size
    with ctx.database.write() as session:
        repository.record(session, sha256, num_bytes, media_type, ctx.now())
    log.info("artifact_stored", sha256=sha256, num_bytes=num_bytes)
    return ArtifactView(sha256=sha256, num_bytes=num_bytes, media_type=media_type)
