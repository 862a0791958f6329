"""What the server's tests share beside fixtures: a clock that is turned by hand and an agent that calls the API."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient

from nas.targets import Group
from tests.server import samples


class FakeClock:
    """Ticks a microsecond a look, so that what was queued first is also earlier."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(microseconds=1)
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def only(device_id: str) -> Group:
    """The group of this very device: its peers may not answer for it."""
    return Group("", "", device_id)


def local_client(app: FastAPI, **options: Any) -> TestClient:
    return TestClient(app, base_url="http://127.0.0.1/api/v1/", client=("127.0.0.1", 50_000), **options)


EnrolAgent = Callable[..., "AgentClient"]


class AgentClient:
    """An enrolled device that calls the API under its own credential."""

    def __init__(self, app: FastAPI, credential: dict[str, str]) -> None:
        self.device_id = credential["device_id"]
        self.agent_id = credential["agent_id"]
        self.http = local_client(app, headers={"Authorization": f"Bearer {credential['secret']}"})

    def lease(self, wait_s: float = 0.0) -> dict[str, Any] | None:
        response = self.http.post("agents/lease", json={"wait_s": wait_s})
        assert response.status_code in (200, 204), response.text
        return response.json() if response.status_code == 200 else None

    def result(self, lease: dict[str, Any], **outcome: Any) -> Any:
        outcome = outcome or {"measurement": samples.measurement(lease["job"]["plan"]["id"])}
        body = {"fencing_token": lease["fencing_token"], **outcome}
        return self.http.post(f"jobs/{lease['job_id']}/result", json=body)

    def heartbeat(self, lease: dict[str, Any], **fields: Any) -> Any:
        body = {"fencing_token": lease["fencing_token"], **fields}
        return self.http.post(f"jobs/{lease['job_id']}/heartbeat", json=body)
