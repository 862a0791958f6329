"""A killed coordinator leaves no worker behind; a killed worker takes no call with it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from foundation.errors import WorkerLost
from foundation.workers import Workers, worker_pool

ROOT = Path(__file__).parents[2]
OWNER = """
import os, sys
from foundation.workers import worker_pool
if __name__ == "__main__":
    pool = worker_pool(2)
    print(*sorted({pool.submit(os.getpid).result() for _ in range(4)}), flush=True)
    sys.stdin.read()
"""


def test_workers_work() -> None:
    with worker_pool(1) as pool:
        assert pool.submit(pow, 2, 10).result(timeout=60) == 1024


def test_a_killed_worker_takes_no_call_with_it(tmp_path: Path) -> None:
    workers = Workers(1)
    first = workers.submit(die_first, str(tmp_path / "mark"))
    waiting = workers.submit(pow, 2, 10)
    assert (first.result(timeout=60), waiting.result(timeout=60)) == ("alive", 1024)
    with pytest.raises(WorkerLost, match="lost twice"):
        workers.submit(os._exit, 1).result(timeout=60)
    workers.close()
    with pytest.raises(RuntimeError):
        workers.submit(pow, 2, 10)


def die_first(mark: str) -> str:
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def test_workers_end_when_their_owner_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "owner.py"
    script.write_text(OWNER)
    owner = subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    with owner:
        assert owner.stdout is not None
        pids = [int(pid) for pid in owner.stdout.readline().split()]
        assert pids
        watched = [os.pidfd_open(pid) for pid in pids]
        owner.send_signal(signal.SIGKILL)
        for handle in watched:  # readable once the process has ended
            assert select.select([handle], [], [], 20)[0]
            os.close(handle)
