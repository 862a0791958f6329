"""Processors that this process may use, not those of the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from foundation.cpus import usable_cpus

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/", {}, 8),
        ("0::/job", {"job/cpu.max": "max 100000"}, 8),
        ("0::/job", {"job/cpu.max": "200000 100000"}, 2),
        ("0::/job", {"job/cpu.max": "150000 100000"}, 2),
        ("0::/job", {"job/cpu.max": "10000 100000"}, 1),
        ("0::/job", {"job/cpu.max": "6400000 100000"}, 8),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3),
        ("0::/", {"cpu.max": "400000 100000"}, 4),
        ("4:cpu,cpuacct:/job", {"cpu/job/cpu.cfs_quota_us": "300000", "cpu/job/cpu.cfs_period_us": "100000"}, 3),
        ("4:cpu,cpuacct:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ("3:memory:/job", {"cpu/job/cpu.cfs_quota_us": "100000", "cpu/job/cpu.cfs_period_us": "100000"}, 8),
        ("0::/job", {"job/cpu.max": "nonsense"}, 8),
        ("0::/../../elsewhere", {}, 8),
    ],
)
def test_affinity_and_quota(tmp_path: Path, own: str, files: dict[str, str], expected: int) -> None:
    for name, text in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(text + "\n")
    (tmp_path / "own").write_text(own + "\n")
    assert usable_cpus(tmp_path / "cgroup", tmp_path / "own") == expected


def test_a_process_bound_to_one_processor_counts_one() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});" \
           "from foundation.cpus import usable_cpus; print(usable_cpus())"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "1"


def test_nobody_counts_the_machine() -> None:
    listed = subprocess.run(["git", "ls-files", "*.py"], capture_output=True, text=True, cwd=ROOT, check=True)
    counting = [name for name in listed.stdout.split() if "cpu_count()" in (ROOT / name).read_text()]
    assert set(counting) <= {"foundation/cpus.py", "tests/unit/test_cpus.py"}
