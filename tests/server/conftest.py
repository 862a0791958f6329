"""A coordinator without loops, over a fresh SQLite, with a clock that the test turns."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from server.app import create_app
from server.context import Context
from server.settings import Settings
from tests.server import samples
from tests.server.helpers import AgentClient, EnrolAgent, FakeClock, local_client


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrated once; each test works on a copy."""
    folder = tmp_path_factory.mktemp("migrated")
    create_app(Settings(var=folder), supervise=False).state.context.database.dispose()
    return folder / "hilnas.sqlite3"


@pytest.fixture
def settings(tmp_path: Path, empty_database: Path) -> Settings:
    shutil.copy(empty_database, tmp_path / "hilnas.sqlite3")
    return Settings(var=tmp_path, migrate=False)


@pytest.fixture
def app(settings: Settings, clock: FakeClock) -> Iterator[FastAPI]:
    app = create_app(settings, clock=clock, supervise=False)
    yield app
    app.state.context.database.dispose()


@pytest.fixture
def ctx(app: FastAPI) -> Context:
    context: Context = app.state.context
    return context


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    """The local user's browser."""
    return local_client(app)


@pytest.fixture
def enrol(app: FastAPI, client: TestClient) -> EnrolAgent:
    def run(name: str = "desk-cpu", serves: tuple[str, ...] = ("measure",), **facts: Any) -> AgentClient:
        token = client.post("devices/tokens", json={}).json()["token"]
        body = {"token": token, "facts": samples.facts(name, **facts), "serves": list(serves)}
        response = client.post("agents/enrol", json=body)
        assert response.status_code == 201, response.text
        return AgentClient(app, response.json())

    return run


@pytest.fixture
def study_id(client: TestClient) -> str:
    response = client.post("studies", json=samples.spec())
    assert response.status_code == 201, response.text
    found: str = response.json()["id"]
    return found
