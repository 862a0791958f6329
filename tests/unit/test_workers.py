"""A killed coordinator leaves no worker behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

from foundation.workers import worker_pool

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
