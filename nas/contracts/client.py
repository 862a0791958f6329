"""The coordinator's API as agents and trainers see it. Network trouble is retried here; answers are contracts."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from nas.contracts.errors import DeviceError, HilnasError
from nas.contracts.job import (
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

RETRY_S = 1.0
CHUNK = 1 << 20
UPLOAD_CHUNK = 8 << 20


class CoordinatorError(HilnasError):
    """The coordinator refused; ``code`` and the sentence are its own."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class CoordinatorClient:
    """``stopping`` ends retries: an agent that was told to stop does not wait for a coordinator that is down."""

    def __init__(
        self, url: str, credential: Credential | None = None, stopping: Callable[[], bool] = lambda: False
    ) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(base_url=f"{self.url}/api/v1", timeout=60.0)
        self._stopping = stopping
        if credential is not None:
            self.use(credential)

    def use(self, credential: Credential) -> None:
        self._http.headers["Authorization"] = f"Bearer {credential.secret}"

    def enrol(self, enrolment: Enrolment) -> Credential:
        return Credential(**self._call("POST", "/agents/enrol", enrolment.model_dump(mode="json")).json())

    def lease(self, wait_s: float) -> Lease | None:
        reply = self._call("POST", "/agents/lease", LeaseRequest(wait_s=wait_s).model_dump(), retry=False)
        return Lease(**reply.json()) if reply.status_code == 200 else None

    def upcoming(self) -> list[str]:
        """Digests of the blocks that the next queued jobs need: to be fetched while the device cools."""
        return Upcoming(**self._call("GET", "/agents/upcoming", retry=False).json()).blocks

    def heartbeat(self, job_id: str, beat: Heartbeat) -> HeartbeatReply:
        return HeartbeatReply(**self._call("POST", f"/jobs/{job_id}/heartbeat", beat.model_dump(), retry=False).json())

    def report(self, job_id: str, result: JobResult) -> JobReply:
        return JobReply(**self._call("POST", f"/jobs/{job_id}/result", result.model_dump(mode="json")).json())

    def fetch(self, digest: str, target: Path) -> None:
        """Downloads an artifact, resuming a partial file, and verifies its sha256 before it takes its name."""
        partial = target.with_suffix(".partial")
        target.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(5):
            have = partial.stat().st_size if partial.exists() else 0
            headers = {"Range": f"bytes={have}-"} if have else {}
            try:
                with self._http.stream("GET", f"/artifacts/{digest}", headers=headers) as reply:
                    if reply.status_code == 416:
                        partial.unlink(missing_ok=True)
                        continue
                    self._raise_for(reply)
                    with partial.open("ab" if reply.status_code == 206 else "wb") as file:
                        for chunk in reply.iter_bytes(CHUNK):
                            file.write(chunk)
            except httpx.TransportError:
                self._pause()
                continue
            if file_digest(partial) == digest:
                os.replace(partial, target)
                return
            partial.unlink(missing_ok=True)
        raise DeviceError(f"artifact {digest[:12]} could not be fetched whole from {self.url}")

    def upload(self, path: Path, media_type: str = "application/octet-stream") -> str:
        """Stores a file under its sha256, going on where a broken upload stopped. Returns the digest."""
        digest, size = file_digest(path), path.stat().st_size
        for _ in range(5):
            try:
                head = self._http.head(f"/artifacts/{digest}")
                if head.status_code == 200 and "Upload-Offset" not in head.headers:
                    return digest
                offset = int(head.headers.get("Upload-Offset", 0))
                with path.open("rb") as file:
                    file.seek(offset)
                    while offset < size:
                        chunk = file.read(UPLOAD_CHUNK)
                        span = f"bytes {offset}-{offset + len(chunk) - 1}/{size}"
                        headers = {"Content-Range": span, "Content-Type": media_type}
                        self._raise_for(self._http.put(f"/artifacts/{digest}", content=chunk, headers=headers))
                        offset += len(chunk)
                return digest
            except httpx.TransportError:
                self._pause()
        raise DeviceError(f"{path.name} could not be uploaded whole to {self.url}")

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None, retry: bool = True) -> httpx.Response:
        while True:
            try:
                reply = self._http.request(method, path, json=body)
            except httpx.TransportError as error:
                if not retry or self._stopping():
                    raise DeviceError(f"the coordinator at {self.url} does not answer: {error}") from error
                self._pause()
                continue
            if reply.status_code >= 500 and retry and not self._stopping():
                self._pause()
                continue
            self._raise_for(reply)
            return reply

    def _raise_for(self, reply: httpx.Response) -> None:
        if reply.status_code < 400:
            return
        reply.read()
        try:
            body = reply.json()
        except ValueError:
            body = {}
        raise CoordinatorError(
            reply.status_code, str(body.get("code", "http_error")), str(body.get("message", reply.text[:200]))
        )

    def _pause(self) -> None:
        time.sleep(RETRY_S)


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
