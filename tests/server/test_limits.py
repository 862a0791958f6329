"""What a request may cost before anybody knows who sent it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from nas.store import StudyStore
from server.app import create_app
from server.coordinator import Coordinator
from server.settings import Settings
from server.store import SqlStudyStore
from tests.server import samples
from tests.server.helpers import local_client

ENROL = "/api/v1/agents/enrol"
JSON = {"Content-Type": "application/json"}


def test_a_large_body_without_a_token_is_refused(client: TestClient) -> None:
    answer = client.post(ENROL, content=b'{"token": "' + b"x" * (1 << 20) + b'"}', headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 5000 + b"]" * 5000, b'{"token": ' + b"9" * 400 + b"}", b'{"token": "' + b"x" * 70_000 + b'"}',
        b'{"token": "\\u0000"}', b'{"token": "\\ud800"}', b'{"token": NaN}', b"\xff\xfe", b'{"token"',
    ],
)  # fmt: skip
def test_a_senseless_body_is_answered_with_a_sentence(client: TestClient, body: bytes) -> None:
    answer = client.post(ENROL, content=body, headers=JSON)
    assert 400 <= answer.status_code < 500
    assert answer.json()["message"]


@pytest.mark.parametrize(
    "path",
    [
        "/jobs?offset=99999999999999999999999", "/jobs?study_id=%00", "/trainings?offset=9223372036854775808",
        "/studies/a%00b", "/trials/" + "x" * 5000,
    ],
)  # fmt: skip
def test_an_address_that_no_database_takes_is_answered(client: TestClient, path: str) -> None:
    assert 400 <= client.get(f"/api/v1{path}").status_code < 500


# --- artifacts: of one file, of all files together -------------------------------------------------------------------

SHA = hashlib.sha256(b"never sent").hexdigest()
TERABYTES_100 = 100 * 10**12


@pytest.mark.parametrize(
    "headers", [{"Content-Range": f"bytes 0-9/{TERABYTES_100}"}, {"Content-Length": str(TERABYTES_100)}]
)  # fmt: skip
def test_a_hundred_terabytes_announced_are_refused_before_a_byte_is_kept(
    app: FastAPI, client: TestClient, headers: dict[str, str]
) -> None:
    answer = client.put(f"artifacts/{SHA}", content=b"0123456789", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert f"{TERABYTES_100} were announced" in answer.json()["message"]
    assert not app.state.context.artifacts.partial_path(SHA).exists()


@pytest.fixture
def small_store(settings: Settings) -> Iterator[TestClient]:
    """A coordinator that keeps files of at most 1,000 bytes, 1,500 in all, and the last 100 events of a study."""
    app = create_app(
        settings.model_copy(update={"max_artifact_bytes": 1000, "max_store_bytes": 1500, "max_events": 100}),
        supervise=False,
    )  # fmt: skip
    yield local_client(app)
    app.state.context.database.dispose()


def put(client: TestClient, content: bytes, **headers: str) -> httpx.Response:
    return client.put(f"artifacts/{hashlib.sha256(content).hexdigest()}", content=content, headers=headers)


def test_a_body_that_says_no_length_is_cut_at_the_limit_of_a_file(small_store: TestClient) -> None:
    sha = hashlib.sha256(bytes(5000)).hexdigest()
    answer = small_store.put(f"artifacts/{sha}", content=iter([bytes(500)] * 10))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert small_store.head(f"artifacts/{sha}").headers["Upload-Offset"] == "0"


def test_the_store_has_a_limit_that_unfinished_files_count_for(small_store: TestClient) -> None:
    assert put(small_store, b"a" * 900).status_code == 201
    begun = put(small_store, b"b" * 400, **{"Content-Range": "bytes 0-399/600"})
    assert begun.status_code == 202
    full = put(small_store, b"c" * 300)
    assert (full.status_code, full.json()["code"]) == (507, "store_full")
    assert "HILNAS_MAX_STORE_BYTES" in full.json()["message"]
    assert put(small_store, b"c" * 150).status_code == 201


# --- events ----------------------------------------------------------------------------------------------------------


def test_of_a_study_s_events_the_newest_are_kept(small_store: TestClient) -> None:
    app = small_store.app
    first = small_store.post("studies", json=samples.spec()).json()["id"]
    other = small_store.post("studies", json=samples.spec(name="other")).json()["id"]
    store = SqlStudyStore(app.state.context, first)  # type: ignore[attr-defined]
    for number in range(250):
        store.emit("counted", number=number)
    coordinator = Coordinator(app.state.context, idle)  # type: ignore[attr-defined]
    coordinator.sweep()
    coordinator.close()
    ids, numbers = events_of(small_store, first)
    assert numbers == list(range(150, 250))
    assert events_of(small_store, first, after=ids[-3]) == (ids[-2:], [248, 249])
    assert events_of(small_store, first, after=1)[1] == numbers, "who was away longer gets what is left"
    assert len(events_of(small_store, other)[0]) == 1
    store.emit("counted", number=250)
    assert events_of(small_store, first)[0][-1] > ids[-1], "ids are never used again"


def idle(store: StudyStore) -> None:
    while not store.stop_requested():
        store.wait(10)


def events_of(client: TestClient, study_id: str, after: int = 0) -> tuple[list[int], list[int]]:
    """(ids, numbers) of the stored events."""
    text = client.get(f"studies/{study_id}/events", params={"wait": "false", "after": after}).text
    ids = [int(found) for found in re.findall(r"^id: (\d+)", text, re.MULTILINE)]
    return ids, [int(found) for found in re.findall(r'"number":(\d+)', text)]


# --- memory of a real process ----------------------------------------------------------------------------------------

MIB = 1 << 20
BODY_MIB, MAX_GROWTH_MIB = 300, 50


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """(pid, port) of a coordinator that has answered once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("server")
    command = [sys.executable, "-m", "server", "--port", str(port), "--var", str(folder)]
    environment = {**os.environ, "HILNAS_AUTH": "tokens", "HILNAS_ADMIN_TOKEN": "a" * 24}
    with subprocess.Popen(command, env=environment) as process:
        try:
            transport = httpx.HTTPTransport(retries=0)
            with httpx.Client(transport=transport, base_url=f"http://127.0.0.1:{port}/api/v1") as client:
                wait_until_it_answers(client, process)
                for _ in range(20):  # what the first requests load stays
                    assert client.post("agents/enrol", content=b"{").status_code == 422
            yield process.pid, port
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def wait_until_it_answers(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            client.get("health")
            return
    pytest.fail(f"the server ended with {process.returncode}")


def peak_mib(pid: int) -> float:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


HEAD = b"POST /api/v1/agents/enrol HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "content-length"])
def test_three_hundred_megabytes_without_a_token_cost_no_memory(server: tuple[int, int], chunked: bool) -> None:
    pid, port = server
    before = peak_mib(pid)
    for _ in range(4):
        answer = stream(port, chunked)
        assert answer.startswith(b"HTTP/1.1 413"), answer
        assert b"too_large" in answer
    assert peak_mib(pid) - before < MAX_GROWTH_MIB
    assert httpx.get(f"http://127.0.0.1:{port}/api/v1/health").status_code == 200


def stream(port: int, chunked: bool) -> bytes:
    """Sends as much of the body as the server takes; what it answered."""
    block = b'"' + b"x" * (MIB - 2) + b","
    length = b"Transfer-Encoding: chunked" if chunked else f"Content-Length: {BODY_MIB * MIB}".encode()
    framed = f"{MIB:x}\r\n".encode() + block + b"\r\n" if chunked else block
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(HEAD + length + b"\r\n\r\n")
            for _ in range(BODY_MIB):
                connection.sendall(framed)
        with contextlib.suppress(ConnectionError):
            return connection.recv(65_536)
    return b"no answer"
