"""The real ``hilnas`` commands as child processes on free ports in a temporary folder, watched through the public API.

``Service`` holds one coordinator, one agent and their folder; either may be killed and started again."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx

ROOT = Path(__file__).parents[2]
SHARED_LIBRARY = ROOT / "build" / "test-library"
POLL_S = 0.1
START_S = 60.0
Found = TypeVar("Found")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(what: str, look: Callable[[], Found], timeout_s: float) -> Found:
    """The first true answer of ``look``; fails with ``what`` once the time is over."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(POLL_S)
    raise AssertionError(f"{what} did not happen within {timeout_s:.0f} s")


def run_hilnas(*arguments: str, cwd: Path | None = None, timeout_s: float = 120.0, **environ: str) -> (
    subprocess.CompletedProcess[str]
):  # fmt: skip
    """A command to its end; what a user would see on a narrow or wide terminal is one line here."""
    return subprocess.run(
        [sys.executable, "-m", "hilnas", *arguments], capture_output=True, text=True, timeout=timeout_s,
        cwd=cwd or ROOT, env=environment(**environ), stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def environment(**changes: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HILNAS_")}
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "400", **changes}


class Service:
    """``name`` of a process is its log's: ``<var>/coordinator.log``. Everything started is dead after ``close``."""

    def __init__(self, var: Path, lease_s: float = 20.0) -> None:
        self.var, self.port = var, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx.Client(base_url=f"{self.url}/api/v1", timeout=30.0)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._environ = environment(HILNAS_LEASE_S=str(lease_s), HILNAS_MEASUREMENT_LOCK=str(var / "quiet"))
        SHARED_LIBRARY.mkdir(parents=True, exist_ok=True)
        var.mkdir(parents=True, exist_ok=True)
        (var / "library").symlink_to(SHARED_LIBRARY)

    # --- processes -------------------------------------------------------------------------------------------------

    def start_coordinator(self) -> None:
        self._start("coordinator", "serve", "--port", str(self.port), "--var", str(self.var))
        wait_for("the coordinator's first answer", self._is_up, START_S)

    def start_agent(self) -> None:
        home = self.var / "agent"
        self._start("agent", "agent", "host", "--url", self.url, "--home", str(home), "--name", "this-machine")

    def start_phone_agent(self, *addresses: str, name: str = "phones", **options: str) -> None:
        """``hilnas agent android`` for phones that look often, with a key of this service's own."""
        given = [
            f"--{key.replace('_', '-')}={value}" for key, value in {"poll": "0.5", "wait": "20", **options}.items()
        ]
        named = [f"--connect={address}" for address in addresses]
        self._environ["HILNAS_ADB_KEY"] = str(self.var / "adbkey")
        home = str(self.var / name)
        self._start(name, "agent", "android", "--url", self.url, "--home", home, *named, *given)

    def kill(self, name: str) -> None:
        """kill -9 of one process, as by the kernel's out-of-memory killer; its children are left to themselves."""
        os.kill(self.processes[name].pid, signal.SIGKILL)
        self.processes[name].wait()

    def kill_runner(self) -> int | None:
        """kill -9 of the agent's child; its process id, or None while the agent has none."""
        if pid := child_of(self.processes["agent"].pid):
            with contextlib.suppress(ProcessLookupError):  # it was done in that moment
                os.kill(pid, signal.SIGKILL)
        return pid

    def close(self) -> None:
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.http.close()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, name: str, *arguments: str) -> None:
        with (self.var / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "hilnas", *arguments], stdout=log, stderr=log, cwd=ROOT,
                stdin=subprocess.DEVNULL, start_new_session=True, env=self._environ,
            )  # fmt: skip

    def _is_up(self) -> bool:
        process = self.processes["coordinator"]
        assert process.poll() is None, f"the coordinator ended: {self.log('coordinator')}"
        with contextlib.suppress(httpx.TransportError):
            return self.http.get("/health").status_code == 200
        return False

    # --- the API -----------------------------------------------------------------------------------------------------

    def get(self, path: str, **params: Any) -> Any:
        reply = self.http.get(path, params=params)
        assert reply.status_code == 200, f"GET {path}: {reply.status_code} {reply.text}"
        return reply.json()

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        reply = self.http.post(path, json=body or {})
        assert reply.status_code in (200, 201), f"POST {path}: {reply.status_code} {reply.text}"
        return reply.json()

    def ended(self, study_id: str) -> dict[str, Any] | None:
        """The study once it ended; None while it runs."""
        study = self.get(f"/studies/{study_id}")
        return None if study["state"] == "running" else dict(study)

    def wait_until_ended(self, study_id: str, timeout_s: float) -> dict[str, Any]:
        try:
            return wait_for(f"the end of study {study_id}", lambda: self.ended(study_id), timeout_s)
        except AssertionError as error:
            trials = [(t["number"], t["state"], t["reason"]) for t in self.get(f"/studies/{study_id}/trials")]
            raise AssertionError(f"{error}\n{trials}\n{self.log('coordinator')}\n{self.log('agent')}") from error

    def measurements(self, study_id: str) -> dict[str, str | None]:
        """Measurement id -> job id, of every trial of the study."""
        trials = self.get(f"/studies/{study_id}/trials")
        rows = [row for trial in trials for row in self.get(f"/trials/{trial['id']}/measurements")]
        return {row["id"]: row["job_id"] for row in rows}

    def log(self, name: str) -> str:
        path = self.var / f"{name}.log"
        return path.read_text()[-4000:] if path.exists() else ""


def child_of(pid: int) -> int | None:
    """A direct child of a process, as Linux tells it; None when it has none."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            if children := task.read_text().split():
                return int(children[0])
    return None
