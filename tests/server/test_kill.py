"""kill -9 of the coordinator while a job is out: nothing measured is lost, nothing counts twice."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.server import samples

SERVE = """
import sys, uvicorn
from pathlib import Path
from nas.store import StudyStore
from nas.targets import groups_of
from server.app import create_app
from server.settings import Settings
from contracts.job import MeasureJob
from tests.server import samples

def run_study(store: StudyStore) -> None:
    for trial in store.trials() or [store.add_trial({}, samples.candidate())]:
        for group in groups_of(store.study().spec, store.devices()):
            store.submit(trial.id, group, samples.job())
    while not store.stop_requested():
        store.wait(60)

class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print("READY", flush=True)

app = create_app(Settings(var=Path(sys.argv[1])), run_study=run_study)
Server(uvicorn.Config(app, port=int(sys.argv[2]), log_level="error")).run()
"""


@contextmanager
def coordinator(var: Path, port: int) -> Iterator[tuple[httpx.Client, subprocess.Popen[str]]]:
    command = [sys.executable, "-c", SERVE, str(var), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path.cwd()) as process:
        assert process.stdout is not None
        try:
            assert any(line.strip() == "READY" for line in iter(process.stdout.readline, ""))
            with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1/", timeout=30) as client:
                yield client, process
        finally:
            process.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def enrol(client: httpx.Client) -> dict[str, str]:
    token = client.post("devices/tokens", json={}).json()["token"]
    secret = client.post("agents/enrol", json={"token": token, "facts": samples.facts()}).json()["secret"]
    return {"Authorization": f"Bearer {secret}"}


def test_kill_9_while_a_job_is_out(tmp_path: Path) -> None:
    port = free_port()
    with coordinator(tmp_path, port) as (client, process):
        agent = enrol(client)
        client.post("studies", json=samples.spec())
        lease: dict[str, Any] = client.post("agents/lease", json={"wait_s": 30}, headers=agent).json()
        os.kill(process.pid, signal.SIGKILL)
    body = {"fencing_token": lease["fencing_token"], "measurement": samples.measurement()}
    with coordinator(tmp_path, port) as (client, process):
        reply = client.post(f"jobs/{lease['job_id']}/result", json=body, headers=agent).json()
        assert reply == {"accepted": True, "reason": ""}
        os.kill(process.pid, signal.SIGKILL)
    with coordinator(tmp_path, port) as (client, _):
        again = client.post(f"jobs/{lease['job_id']}/result", json=body, headers=agent).json()
        assert again == {"accepted": True, "reason": "already_done"}
        job = client.get(f"jobs/{lease['job_id']}").json()
        assert (job["state"], job["verdict"]) == ("done", "valid")
        assert len(client.get(f"trials/{job['trial_id']}/measurements").json()) == 1
        assert client.post("agents/lease", json={"wait_s": 0}, headers=agent).status_code == 204
