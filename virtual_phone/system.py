"""The virtual phone's Android as plain files: the output of the stand-ins and the files below ``$HILNAS_SYSROOT``.

Layout of the state folder: ``android/`` (one value per file, read and written by the stand-ins), ``sysroot/`` (/sys and
/proc as far as a measurement reads them), ``bin/`` (the stand-ins), ``data/local/tmp/hilnas`` (the phone's own files).
"""

from __future__ import annotations

import json
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.errors import InvalidConfig
from foundation.files import write_atomically

HERE = Path(__file__).parent
CPU = Path("sys/devices/system/cpu")
MAX_CORES = 8


def models() -> list[str]:
    return sorted(path.stem for path in (HERE / "recorded").glob("*.json"))


def recorded(model: str) -> dict[str, Any]:
    if model not in models():
        raise InvalidConfig(f"unknown virtual phone {model!r}; known models: {', '.join(models())}")
    found: dict[str, Any] = json.loads((HERE / "recorded" / f"{model}.json").read_text())
    return found


@dataclass(frozen=True)
class Policy:
    """Cores of one frequency domain; named by its first core, as the kernel does."""

    cpus: tuple[int, ...]
    cluster: dict[str, Any]

    @property
    def name(self) -> str:
        return f"policy{self.cpus[0]}"


def spread_cores(clusters: list[dict[str, Any]], cpus: list[int]) -> list[Policy]:
    """Gives the host's cores the places of a phone's, slowest first, always with the fastest one.

    The runner's affinity is real, so a phone on a two-core host has two cores.
    """
    places = [index for index, cluster in enumerate(clusters) for _ in range(cluster["cores"])]
    last = len(places) - 1
    picks = [round(i * last / (len(cpus) - 1)) for i in range(len(cpus))] if len(cpus) > 1 else [last]
    members: dict[int, list[int]] = {}
    for cpu, pick in zip(cpus, picks, strict=True):
        members.setdefault(places[pick], []).append(cpu)
    return [Policy(tuple(cores), clusters[index]) for index, cores in members.items()]


class PhoneFiles:
    """Reads and writes the files; concurrent readers see the old value or the new one."""

    def __init__(self, state: Path, model: str, serial: str, cpus: list[int]) -> None:
        self.state, self.record = state, recorded(model)
        self.policies = spread_cores(self.record["clusters"], cpus)
        self.sysroot, self.root = state / "sysroot", state / "data" / "local" / "tmp" / "hilnas"
        self.serial, self.cpus = serial, cpus

    def create(self) -> None:
        """Creates a new phone's files; settings and files of an earlier start are kept."""
        self.root.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.state / "bin", ignore_errors=True)
        shutil.copytree(HERE / "standins", self.state / "bin")
        for standin in (self.state / "bin").iterdir():
            standin.chmod(0o755)
        for namespace in ("system", "global", "secure"):
            (self.state / "android" / "settings" / namespace).mkdir(parents=True, exist_ok=True)
        props = {**self.record["props"], "ro.serialno": self.serial, "ro.boot.serialno": self.serial,
                 "ro.hilnas.virtual": "1"}  # fmt: skip
        self.put("props", "\n".join(f"[{key}]: [{value}]" for key, value in sorted(props.items())))
        self.put("page_size", self.record["page_size"])
        self.put("storage_kb", self.record["storage_kb"])
        self._create_proc()
        self._create_cpus()
        for index, name in enumerate(self.record["zones"]):
            self.put_sys(f"sys/class/thermal/thermal_zone{index}/type", name)

    def boot(self) -> None:
        """Resets what a boot resets: overrides, fixed-performance mode and counters."""
        shutil.rmtree(self.state / "android" / "battery.shown", ignore_errors=True)
        self.put_sys("proc/sys/kernel/random/boot_id", uuid.uuid4())
        values = {"status": 2, "ac": 0, "usb": 1, "wireless": 0, "level": 78, "temperature": 295,
                  "voltage": self.record["battery_mv"], "charge_counter": self.record["charge_counter"]}  # fmt: skip
        for name, value in values.items():
            self.put(f"battery/{name}", value)
        self.put("power/fixed", "false")
        self.put("power/wakefulness", "Awake")
        for policy in self.policies:
            self.put_policy(policy, "scaling_max_freq", policy.cluster["max_khz"])

    def put(self, name: str, value: object) -> None:
        write(self.state / "android" / name, value)

    def get(self, name: str, default: str = "") -> str:
        try:
            return (self.state / "android" / name).read_text().strip()
        except OSError:
            return default

    def put_sys(self, path: str, value: object) -> None:
        write(self.sysroot / path, value)

    def put_policy(self, policy: Policy, name: str, value: object) -> None:
        write(self.sysroot / CPU / "cpufreq" / policy.name / name, value)

    def _create_proc(self) -> None:
        total = self.record["memory_kb"]
        memory = {"MemTotal": total, "MemFree": total // 4, "MemAvailable": total // 2}
        self.put_sys("proc/version", self.record["kernel"])
        self.put_sys("proc/meminfo", "\n".join(f"{name}: {kb:>15} kB" for name, kb in memory.items()))
        processors = (self._processor(cpu, policy.cluster) for policy in self.policies for cpu in policy.cpus)
        self.put_sys("proc/cpuinfo", "\n\n".join(processors))

    def _processor(self, cpu: int, cluster: dict[str, Any]) -> str:
        record = self.record
        return (
            f"processor\t: {cpu}\nBogoMIPS\t: {record['bogomips']}\nFeatures\t: {record['features']}\n"
            f"CPU implementer\t: {record['implementer']}\nCPU architecture: 8\nCPU variant\t: {cluster['variant']}\n"
            f"CPU part\t: {cluster['part']}\nCPU revision\t: {cluster['revision']}"
        )

    def _create_cpus(self) -> None:
        shutil.rmtree(self.sysroot / CPU, ignore_errors=True)
        for name in ("present", "possible", "online"):
            self.put_sys(f"{CPU}/{name}", cpu_list(self.cpus))
        for policy in self.policies:
            cluster, members = policy.cluster, " ".join(map(str, policy.cpus))
            for name, value in (
                ("cpuinfo_max_freq", cluster["max_khz"]), ("cpuinfo_min_freq", cluster["min_khz"]),
                ("scaling_max_freq", cluster["max_khz"]), ("scaling_min_freq", cluster["min_khz"]),
                ("scaling_cur_freq", cluster["min_khz"]), ("scaling_governor", self.record["governor"]),
                ("related_cpus", members), ("affected_cpus", members),
            ):  # fmt: skip
                self.put_policy(policy, name, value)
            for name in ("max_khz", "fixed_khz"):
                self.put(f"policies/{policy.name}/{name}", cluster[name])
            for cpu in policy.cpus:
                (self.sysroot / CPU / f"cpu{cpu}").mkdir(parents=True)
                (self.sysroot / CPU / f"cpu{cpu}" / "cpufreq").symlink_to(f"../cpufreq/{policy.name}")


def cpu_list(cpus: list[int]) -> str:
    """A set of cores in the kernel's notation: ``0-3,6``."""
    runs: list[list[int]] = []
    for cpu in cpus:
        if runs and cpu == runs[-1][-1] + 1:
            runs[-1].append(cpu)
        else:
            runs.append([cpu])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def write(path: Path, value: object) -> None:
    write_atomically(path, f"{value}\n")
