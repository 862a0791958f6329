"""This machine as a device: the C++ runner as a child process."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from contracts.device import DeviceFacts
from contracts.plan import Plan
from contracts.runner_events import RunnerEvent, parse_run
from contracts.values import require_digest
from device_agents.devices.base import DeviceDefaults
from foundation.cpus import usable_cpus
from foundation.errors import InvalidConfig
from foundation.files import atomic_writer
from foundation.measurement_lock import MeasurementLock

DEFAULT_RUNNER = Path(__file__).parents[2] / "build" / "kernels" / "hilnas-runner"
FEATURES = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm", "sve")
RUN_TIMEOUT_S = 1800.0
GRACE_S = 5.0  # between SIGTERM and SIGKILL
POLL_S = 0.5


class HostDevice(DeviceDefaults):
    def __init__(self, blocks_dir: Path, runner: Path | None = None, name: str | None = None) -> None:
        self.blocks_dir, self.runner = blocks_dir, find_runner(runner)
        blocks_dir.mkdir(parents=True, exist_ok=True)
        self._facts = host_facts(name or platform.node() or "host", runner_version(self.runner))

    @property
    def facts(self) -> DeviceFacts:
        return self._facts

    def has_block(self, digest: str) -> bool:
        return self._block(digest).exists()

    def add_blocks(self, files: Mapping[str, Path], keep: Collection[str] = ()) -> None:
        for digest, path in files.items():
            target = self._block(digest)
            if path != target and not target.exists():
                with atomic_writer(target) as file, path.open("rb") as source:
                    shutil.copyfileobj(source, file)

    def _block(self, digest: str) -> Path:
        return self.blocks_dir / f"{require_digest(digest)}.pte"

    def environment(self) -> dict[str, Any]:
        found: dict[str, Any] = {"load_1m": os.getloadavg()[0]}
        for name, path in (
            ("governor", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            ("frequency_khz", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"),
            ("temperature_mc", "/sys/class/thermal/thermal_zone0/temp"),
        ):
            if (text := _read(path)) is not None:
                found[name] = int(text) if text.lstrip("-").isdigit() else text
        return found

    def run(self, plan: Plan, cancelled: Callable[[], bool]) -> list[RunnerEvent]:
        with MeasurementLock().exclusive():
            return run_process([str(self.runner), "-"], plan.to_runner(str(self.blocks_dir)), cancelled)


def run_process(command: list[str], plan: dict[str, Any], cancelled: Callable[[], bool]) -> list[RunnerEvent]:
    """One cold run: the plan on standard input, JSON lines on standard output. A cancelled or endless run gets SIGTERM
    and is killed after GRACE_S."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    text: str | None = json.dumps(plan)
    started, terminated = time.monotonic(), 0.0
    while True:
        try:
            out, err = process.communicate(text, timeout=POLL_S)
            return parse_run(out, err, process.returncode)
        except subprocess.TimeoutExpired:
            text, now = None, time.monotonic()
            if terminated and now - terminated > GRACE_S:
                process.kill()
            elif not terminated and (cancelled() or now - started > RUN_TIMEOUT_S):
                process.terminate()
                terminated = now


def find_runner(given: Path | None) -> Path:
    """The given runner (option, then HILNAS_RUNNER), else the built one, else one on the PATH."""
    named = given or os.environ.get("HILNAS_RUNNER")
    if named and not Path(named).is_file():
        raise InvalidConfig(f"there is no runner at {named}; `make setup` builds one at build/kernels/hilnas-runner")
    for path in (named, DEFAULT_RUNNER, shutil.which("hilnas-runner")):
        if path and Path(path).is_file():
            return Path(path)
    raise InvalidConfig("the runner is not built: `make setup` builds it, or name one with --runner")


def runner_version(runner: Path) -> str:
    done = subprocess.run([str(runner), "--version"], capture_output=True, text=True, errors="replace", check=False)
    return done.stdout.strip()


def host_facts(name: str, version: str) -> DeviceFacts:
    cpuinfo = _read("/proc/cpuinfo") or ""
    flags = next((x.split(":")[1].split() for x in cpuinfo.splitlines() if x.startswith(("flags", "Features"))), [])
    model = next((x.split(":")[1].strip() for x in cpuinfo.splitlines() if x.startswith("model name")), "")
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return DeviceFacts(
        kind="host", name=name, model=model or platform.machine(), arch=platform.machine(),
        cores=usable_cpus(), memory_bytes=pages * page, os=f"{platform.system()} {platform.release()}",
        cpu_features=[flag for flag in FEATURES if flag in flags], runner_version=version,
    )  # fmt: skip


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
