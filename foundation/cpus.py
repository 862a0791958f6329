"""How many processors this process may use: ``os.cpu_count()`` counts those of the machine, also where a container, a
batch system or ``taskset`` leaves fewer."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def usable_cpus(cgroups: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")) -> int:
    """The least of the affinity and the quota of every control group that holds this process, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = min((found for found in _quotas(cgroups, own)), default=math.inf)
    return max(1, min(allowed, math.ceil(quota) if math.isfinite(quota) else allowed))


def _quotas(cgroups: Path, own: Path) -> list[float]:
    """In processors, of the process's groups and of those around them, in either version of control groups."""
    found = []
    for line in (_read(own) or "0::/").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = cgroups if not controllers else cgroups / "cpu"
        group = root / path.strip().lstrip("/")
        found += [_quota(folder) for folder in (group, *group.parents) if folder == root or root in folder.parents]
    return found


def _quota(folder: Path) -> float:
    if text := _read(folder / "cpu.max"):  # version 2: "200000 100000" or "max 100000"
        quota, _, period = text.partition(" ")
    else:
        quota, period = _read(folder / "cpu.cfs_quota_us") or "", _read(folder / "cpu.cfs_period_us") or ""
    try:
        share = float(quota) / float(period)
    except (ValueError, ZeroDivisionError):
        return math.inf
    return share if share > 0 else math.inf  # -1: no limit


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
