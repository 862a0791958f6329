"""Artifact files: ``ab/<sha256>`` when complete, ``partial/<sha256>`` during the upload.

A file gets its final name by an atomic rename after its digest was checked, so a kill at any moment leaves either a
complete artifact or a partial one that can be continued."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from contracts.values import DIGEST
from server.errors import DISK_FULL_ERRNOS, Conflict, NotFound, disk_full

Writer = Callable[[int, bytes], int]  # os.write: how many bytes of the block it took
BLOCK_BYTES = 1 << 20


class ArtifactFiles:
    """``write`` is passed in so that tests can simulate a full disk."""

    def __init__(self, root: Path, write: Writer = os.write) -> None:
        self.root = root
        self._write = write
        self._busy: set[str] = set()
        self._hashes: dict[tuple[str, int, int, int], str] = {}
        self._lock = threading.Lock()
        (root / "partial").mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        return self.root / require_digest(sha256)[:2] / sha256

    def partial_path(self, sha256: str) -> Path:
        return self.root / "partial" / require_digest(sha256)

    def find(self, sha256: str) -> Path | None:
        path = self.path(sha256)
        return path if path.is_file() else None

    def find_or_raise(self, sha256: str) -> Path:
        path = self.find(sha256)
        if path is None:
            raise NotFound(f"artifact {sha256} is not stored; upload it with PUT /api/v1/artifacts/{sha256}")
        return path

    def offset(self, sha256: str) -> int:
        """How many bytes of an unfinished upload have arrived."""
        try:
            return self.partial_path(sha256).stat().st_size
        except FileNotFoundError:
            return 0

    def partial_bytes(self) -> int:
        """Of all unfinished uploads."""
        with os.scandir(self.root / "partial") as entries:
            return sum(entry.stat().st_size for entry in entries)

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.root).free

    def discard(self, sha256: str) -> None:
        self.partial_path(sha256).unlink(missing_ok=True)

    @contextmanager
    def sole_writer(self, sha256: str) -> Iterator[None]:
        """Two uploads of one artifact would mix their bytes: the second is refused with Conflict."""
        with self._lock:
            if sha256 in self._busy:
                raise Conflict(f"artifact {sha256[:12]} is being uploaded by someone else; retry in a moment",
                               code="upload_in_progress")  # fmt: skip
            self._busy.add(sha256)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(sha256)

    def append(self, sha256: str, block: bytes) -> None:
        """Adds to the partial file. Bytes written before the disk was full are kept, so the upload can continue."""
        with _explained(f"artifact {sha256[:12]}"):
            descriptor = os.open(self.partial_path(sha256), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                rest = memoryview(block)
                while rest:
                    rest = rest[self._write(descriptor, bytes(rest)) :]
            finally:
                os.close(descriptor)

    def finish(self, sha256: str) -> Path:
        """Checks the digest of the partial file and gives it its final name. Raises Conflict when it differs."""
        partial = self.partial_path(sha256)
        found = hash_file(partial)
        if found != sha256:
            partial.unlink()
            raise Conflict(
                f"the received bytes have sha256 {found}, not {sha256}; they were dropped, upload the file again",
                code="digest_mismatch",
            )
        return self._keep(partial, sha256)

    def put_file(self, source: Path) -> str:
        """Copies ``source`` into the store and returns its sha256; content that is already stored is not copied."""
        sha256 = self._hash_once(source)
        if self.find(sha256) is None:
            copy = self.root / "partial" / f"{sha256}.{secrets.token_hex(4)}"
            with _explained(source.name, clean=copy):
                shutil.copyfile(source, copy)
            if hash_file(copy) != sha256:
                copy.unlink()
                raise Conflict(f"{source.name} changed while it was stored; store it again", code="digest_mismatch")
            self._keep(copy, sha256)
        return sha256

    def _hash_once(self, source: Path) -> str:
        """A file that has not changed since it was last hashed costs one stat."""
        stat = source.stat()
        key = (str(source), stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if key not in self._hashes:
            self._hashes[key] = hash_file(source)
        return self._hashes[key]

    def _keep(self, source: Path, sha256: str) -> Path:
        path = self.path(sha256)
        with _explained(f"artifact {sha256[:12]}"):
            _sync(source)
            path.parent.mkdir(exist_ok=True)
            source.replace(path)
            _sync(path.parent)
        return path


def require_digest(sha256: str) -> str:
    if not DIGEST.fullmatch(sha256):
        raise NotFound(f"an artifact is named by its sha256 in 64 lower-case hex digits, got {sha256[:80]!r}")
    return sha256


def hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explained(what: str, clean: Path | None = None) -> Iterator[None]:
    """Turns the system's "no space left" into DiskFull; ``clean`` is removed when the body fails."""
    try:
        yield
    except OSError as error:
        if clean is not None:
            clean.unlink(missing_ok=True)
        if error.errno in DISK_FULL_ERRNOS:
            raise disk_full(what) from error
        raise
