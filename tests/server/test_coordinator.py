"""Loops of studies: started, stopped, failed, resumed, and taken up again after a crash."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError

from contracts.states import StudyState
from foundation.errors import InvalidConfig
from nas.store import StudyStore
from server.app import create_app
from server.settings import Settings
from tests.server import samples
from tests.server.helpers import local_client


class Loop:
    """A ``run_study`` that reports what it was given and ends when the test says so, or when it is asked to."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.entered = threading.Semaphore(0)
        self.left = threading.Semaphore(0)
        self.end: Callable[[StudyStore], None] | None = None

    def __call__(self, store: StudyStore) -> None:
        self.started.append(store.study().id)
        self.entered.release()
        try:
            while not store.stop_requested():
                if self.end is not None:
                    return self.end(store)
                store.wait(10)
            store.finish(StudyState.STOPPED, "stopped on request")
        finally:
            self.left.release()


@pytest.fixture
def loop() -> Loop:
    return Loop()


StartServer = Callable[[], TestClient]


@pytest.fixture
def serve(settings: Settings, loop: Loop) -> Iterator[StartServer]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(local_client(create_app(settings, run_study=loop)))


def entered(loop: Loop) -> None:
    assert loop.entered.acquire(timeout=10)


def start(client: TestClient, loop: Loop) -> str:
    study_id: str = client.post("studies", json=samples.spec()).json()["id"]
    entered(loop)
    return study_id


def state_of(client: TestClient, study_id: str) -> tuple[str, str]:
    found: dict[str, Any] = client.get(f"studies/{study_id}").json()
    return found["state"], found["reason"]


def finish_by(client: TestClient, loop: Loop, study_id: str, end: Callable[[StudyStore], None]) -> None:
    """Lets the loop end by ``end``; a no-op drain of nothing would not wake it, so an event of its study does."""
    loop.end = end
    supervisor: Any = client.app.state.supervisor  # type: ignore[attr-defined]
    client.app.state.context.hub.notify([f"work:{study_id}"])  # type: ignore[attr-defined]
    supervisor._threads[study_id].join(10)


def test_a_study_runs_to_its_end(serve: StartServer, loop: Loop) -> None:
    client = serve()
    study_id = start(client, loop)
    finish_by(client, loop, study_id, lambda store: store.finish(StudyState.FINISHED, "8 candidates complete"))
    assert state_of(client, study_id) == ("finished", "8 candidates complete")


def test_what_a_loop_raises_fails_its_study_with_the_sentence(serve: StartServer, loop: Loop) -> None:
    def fail(store: StudyStore) -> None:
        store.add_trial({}, samples.candidate())
        raise InvalidConfig("no block of this space can be exported")

    client = serve()
    study_id = start(client, loop)
    finish_by(client, loop, study_id, fail)
    assert state_of(client, study_id) == ("failed", "no block of this space can be exported")
    assert len(client.get(f"studies/{study_id}/trials").json()) == 1
    loop.end = None
    assert client.post(f"studies/{study_id}/resume").json()["state"] == "running"
    entered(loop)


def test_an_unexpected_error_fails_one_study_only(serve: StartServer, loop: Loop) -> None:
    client = serve()
    first, second = start(client, loop), start(client, loop)

    def crash(store: StudyStore) -> None:
        if store.study().id == first:
            raise ZeroDivisionError("division by zero")
        store.finish(StudyState.FINISHED, "fine")

    finish_by(client, loop, first, crash)
    finish_by(client, loop, second, crash)
    assert state_of(client, first) == ("failed", "unexpected ZeroDivisionError: division by zero; resume to try again")
    assert state_of(client, second) == ("finished", "fine")


def test_stop_ends_the_loop_and_resume_starts_another(serve: StartServer, loop: Loop) -> None:
    client = serve()
    study_id = start(client, loop)
    client.post(f"studies/{study_id}/stop")
    assert loop.left.acquire(timeout=10)
    assert state_of(client, study_id) == ("stopped", "stopped by its user")
    client.post(f"studies/{study_id}/resume")
    entered(loop)
    assert loop.started == [study_id, study_id]
    assert state_of(client, study_id)[0] == "running"


def test_a_restart_takes_up_what_was_running(settings: Settings, loop: Loop) -> None:
    with local_client(create_app(settings, run_study=loop)) as client:
        running, stopped = start(client, loop), start(client, loop)
        client.post(f"studies/{stopped}/stop")
    with local_client(create_app(settings, run_study=loop)) as client:
        entered(loop)
        assert loop.started[2:] == [running]
        assert state_of(client, running)[0] == "running"
        assert state_of(client, stopped)[0] == "stopped"


def test_going_down_leaves_the_study_running_in_the_tables(settings: Settings, loop: Loop) -> None:
    with local_client(create_app(settings, run_study=loop)) as client:
        study_id = start(client, loop)
    assert loop.left.acquire(timeout=10)
    with local_client(create_app(settings, run_study=loop, supervise=False)) as client:
        assert state_of(client, study_id) == ("running", "")


def test_a_full_disk_stops_the_study_with_a_sentence(serve: StartServer, loop: Loop) -> None:
    def full(store: StudyStore) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    client = serve()
    study_id = start(client, loop)
    finish_by(client, loop, study_id, full)
    state, reason = state_of(client, study_id)
    assert state == "failed"
    assert reason.startswith("the coordinator's disk is full; nothing measured is lost")


def test_a_loop_the_database_interrupted_is_started_again(serve: StartServer, loop: Loop) -> None:
    def interrupted(store: StudyStore) -> None:
        raise OperationalError("UPDATE trials", {}, Exception("database or disk is full"))

    client = serve()
    study_id = start(client, loop)
    finish_by(client, loop, study_id, interrupted)
    assert state_of(client, study_id) == ("running", "")
    loop.end = None
    supervisor: Any = client.app.state.supervisor  # type: ignore[attr-defined]
    supervisor.sweep()
    entered(loop)
    supervisor.sweep()
    assert loop.started == [study_id, study_id], "a loop that runs is left alone"
