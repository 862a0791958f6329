"""What agents and trainers share: enrolling once, and keeping a lease alive during a job."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

from contracts.client import CoordinatorClient
from contracts.device import DeviceFacts
from contracts.http import Refused, Unreachable
from contracts.job import Credential, Enrolment, Heartbeat, JobKind, Lease
from foundation.errors import InvalidConfig


def enrol_once(
    client: CoordinatorClient, kept: Path, token: str | None, facts: DeviceFacts, serves: list[JobKind]
) -> Credential:
    """Uses the credential in ``kept``, or trades the single-use token for one (file mode 0600)."""
    if kept.exists():
        credential = Credential.model_validate_json(kept.read_text())
    elif token:
        credential = client.enrol(Enrolment(token=token, facts=facts, serves=serves))
        kept.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(kept, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
            file.write(credential.model_dump_json())
    else:
        raise InvalidConfig("this agent is not enrolled yet: give it a token (POST /api/v1/devices/tokens makes one)")
    client.authorize(credential.secret)
    return credential


class Heartbeats:
    """Renews a lease from a thread while its job runs, reports progress, receives cancellation and draining."""

    def __init__(self, client: CoordinatorClient, lease: Lease, drain: Callable[[], None] = lambda: None) -> None:
        self.cancelled = threading.Event()
        self._client, self._lease, self._drain = client, lease, drain
        self._progress: float | None = None
        self._message = ""
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name=f"heartbeat-{lease.job_id}")

    def report(self, share: float, message: str) -> None:
        """Sent with the next heartbeat."""
        self._progress, self._message = share, message

    def __enter__(self) -> Heartbeats:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._done.wait(self._lease.heartbeat_s):
            beat = Heartbeat(fencing_token=self._lease.fencing_token, progress=self._progress, message=self._message)
            with contextlib.suppress(Unreachable):
                try:
                    reply = self._client.heartbeat(self._lease.job_id, beat)
                except Refused as error:
                    if error.status in (404, 409, 410):  # the lease is no longer ours
                        self.cancelled.set()
                        return
                    continue
                if reply.cancel:
                    self.cancelled.set()
                if reply.drain:
                    self._drain()
