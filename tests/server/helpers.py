"""What the server's tests share beside fixtures: a clock that is turned by hand and an agent that calls the API."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select

from nas.targets import DeviceGroup
from server.tables import ComparisonRow, DeviceRow, JobRow, StudyRow, TrainingRunRow, TrialRow
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


def only(device_id: str) -> DeviceGroup:
    """The group of this very device: its peers may not answer for it."""
    return DeviceGroup("", "", device_id)


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


def answers_of_all_pages(app: FastAPI) -> Iterator[tuple[str, Any]]:
    """(path, answer) of every GET route that users have, for every study, trial, job, device and training there is."""
    rows = {"study_id": StudyRow, "trial_id": TrialRow, "job_id": JobRow, "device_id": DeviceRow,
            "training_id": TrainingRunRow, "comparison_id": ComparisonRow}  # fmt: skip
    with app.state.context.database.read() as session:
        ids = {name: session.scalars(select(row.id)).all() for name, row in rows.items()}
    client = local_client(app, raise_server_exceptions=False)
    for path, operations in app.openapi()["paths"].items():
        names = re.findall(r"{(\w+)}", path)
        if "get" in operations and set(names) <= set(ids) and "/agents/" not in path:
            for chosen in itertools.product(*(ids[name] for name in names)):
                address = path.format(**dict(zip(names, chosen, strict=True)))
                wait = {"wait": "false"} if address.endswith("/events") else {}
                yield address, client.get(f"http://127.0.0.1{address}", params=wait)


def require_all_pages(app: FastAPI) -> dict[str, Any]:
    """What every page answers, all of them with 200."""
    answers = dict(answers_of_all_pages(app))
    refused = {path: answer.text for path, answer in answers.items() if answer.status_code != 200}
    assert not refused, refused
    return {path: answer.json() if "json" in answer.headers["content-type"] else answer.text
            for path, answer in answers.items()}  # fmt: skip
