"""The coordinator's API for agents and trainers: leases, results and artifacts. Retries on network errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from contracts.http import RestClient, Unreachable, raise_for_status
from contracts.job import (
    Credential,
    Enrolment,
    Heartbeat,
    HeartbeatReply,
    JobReply,
    JobResult,
    Lease,
    LeaseRequest,
    Upcoming,
)  # fmt: skip
from contracts.values import require_digest
from foundation.files import file_digest

CHUNK = 1 << 20
UPLOAD_CHUNK = 8 << 20
TRANSFER_ATTEMPTS = 5


class CoordinatorClient(RestClient):
    def __init__(
        self, url: str, credential: Credential | None = None, stopping: Callable[[], bool] = lambda: False
    ) -> None:
        super().__init__(url, credential.secret if credential else None, timeout_s=60.0, stopping=stopping)

    def enrol(self, enrolment: Enrolment) -> Credential:
        return Credential(**self._post("/agents/enrol", enrolment.model_dump(mode="json"), retry=True).json())

    def lease(self, wait_s: float) -> Lease | None:
        reply = self._post("/agents/lease", LeaseRequest(wait_s=wait_s).model_dump())
        return Lease(**reply.json()) if reply.status_code == 200 else None

    def upcoming(self) -> list[str]:
        """Digests of the blocks that the next queued jobs need: to be fetched while the device cools."""
        return Upcoming(**self.get("/agents/upcoming")).blocks

    def heartbeat(self, job_id: str, beat: Heartbeat) -> HeartbeatReply:
        return HeartbeatReply(**self._post(f"/jobs/{job_id}/heartbeat", beat.model_dump()).json())

    def report(self, job_id: str, result: JobResult) -> JobReply:
        return JobReply(**self._post(f"/jobs/{job_id}/result", result.model_dump(mode="json"), retry=True).json())

    def fetch(self, digest: str, target: Path) -> None:
        """Downloads an artifact, resuming a partial file; it gets its name only after its sha256 was verified. Raises
        InvalidConfig for a malformed digest, before any folder is created."""
        require_digest(digest)
        partial = target.with_suffix(".partial")
        target.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(TRANSFER_ATTEMPTS):
            try:
                self._append_rest(digest, partial)
            except httpx.TransportError:
                self.pause()
                continue
            if file_digest(partial) == digest:
                partial.replace(target)
                return
            partial.unlink(missing_ok=True)
        raise Unreachable(f"could not download all of artifact {digest[:12]} from {self.url}")

    def upload(self, path: Path, media_type: str = "application/octet-stream") -> str:
        """Stores a file under its sha256, resuming a broken upload. Returns the digest."""
        digest, size = file_digest(path), path.stat().st_size
        for _ in range(TRANSFER_ATTEMPTS):
            try:
                head = self._http.head(f"/artifacts/{digest}")
                if head.status_code == 200 and "Upload-Offset" not in head.headers:
                    return digest
                self._upload_from(int(head.headers.get("Upload-Offset", 0)), path, digest, size, media_type)
                return digest
            except httpx.TransportError:
                self.pause()
        raise Unreachable(f"could not upload all of {path.name} to {self.url}")

    def _append_rest(self, digest: str, partial: Path) -> None:
        """Appends the bytes missing from ``partial``; a file longer than the artifact is started over."""
        have = partial.stat().st_size if partial.exists() else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        with self._http.stream("GET", f"/artifacts/{digest}", headers=headers) as reply:
            if reply.status_code == 416:
                partial.write_bytes(b"")
                return
            raise_for_status(reply)
            with partial.open("ab" if reply.status_code == 206 else "wb") as file:
                for chunk in reply.iter_bytes(CHUNK):
                    file.write(chunk)

    def _upload_from(self, offset: int, path: Path, digest: str, size: int, media_type: str) -> None:
        with path.open("rb") as file:
            file.seek(offset)
            while offset < size:
                chunk = file.read(UPLOAD_CHUNK)
                span = f"bytes {offset}-{offset + len(chunk) - 1}/{size}"
                headers = {"Content-Range": span, "Content-Type": media_type}
                raise_for_status(self._http.put(f"/artifacts/{digest}", content=chunk, headers=headers))
                offset += len(chunk)

    def _post(self, path: str, body: dict[str, Any], retry: bool = False) -> httpx.Response:
        return self.request("POST", path, json=body, retry=retry)
