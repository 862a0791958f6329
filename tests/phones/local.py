"""``LocalPhone``: a folder that answers like a phone, and ``LocalTransport``, the shortest way there, with faults."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from device_agents.bundle.manifest import Bundle, write_manifest
from device_agents.transports.base import OnLine, Progress, ShellResult, Traffic
from device_agents.transports.errors import PhoneOffline

COMMANDS = {
    "dumpsys": """case "$1" in
  battery)
    case "$2" in unplug | reset) echo "$2" >>$P/log; exit ;; esac
    printf '  AC powered: false\\n  USB powered: true\\n'
    echo "  level: $(cat $P/level)"; echo "  temperature: $(cat $P/temperature)" ;;
  thermalservice) echo "Thermal Status: $(cat $P/status)" ;;
  power) echo mWakefulness=Awake ;;
esac""",
    "cmd": """echo "cmd $*" >>$P/log
[ "$3" = true ] && cp $P/pinned $P/sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq
exit 0""",
    "settings": """case "$1" in
  get) cat "$P/settings-$2-$3" 2>/dev/null || echo null ;;
  put) echo "$4" >"$P/settings-$2-$3" ;;
  delete) rm -f "$P/settings-$2-$3" ;;
esac""",
    "input": "exit 0",
    "getprop": 'echo "[ro.product.model]: [SM-TEST]"; echo "[ro.serialno]: [R5TEST1]"',
    # the runner: what the test put into $P/runner
    "runner-program": 'exec sh $P/runner "$@"',
}


class LocalPhone:
    """Two cores of 3 GHz in one policy; 30 degrees, 80 percent."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root, self.bin = folder, folder / "data", folder / "bin"
        for path in (self.root, self.bin):
            path.mkdir(parents=True)
        for name, text in COMMANDS.items():
            path = self.bin / name
            path.write_text(f"#!/bin/sh\nP={folder}\n{text}\n")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        for name, text in (
            ("level", "80"),
            ("temperature", "300"),
            ("status", "0"),
            ("log", ""),
            ("pinned", "2000000"),
        ):
            self.write(name, text)
        self.write("proc/sys/kernel/random/boot_id", "boot-1")
        self.write("proc/uptime", "100.0 90.0")
        self.write("proc/meminfo", "MemTotal: 7548000 kB\n")
        self.write("proc/cpuinfo", "Features : asimd asimddp\n")
        policy = "sys/devices/system/cpu/cpufreq/policy0"
        for name, text in (
            ("related_cpus", "0 1"),
            ("scaling_max_freq", "3000000"),
            ("stats/time_in_state", "3000000 50"),
        ):
            self.write(f"{policy}/{name}", text + "\n")
        for cpu in (0, 1):
            self.write(f"sys/devices/system/cpu/cpu{cpu}/cpufreq/cpuinfo_max_freq", "3000000")
        self.runner('cat "$P/events"; exit 0')

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def runner(self, script: str) -> None:
        """A shell text that stands for the runner; ``$1`` is the plan, ``$OUT`` where its events go."""
        self.write(
            "runner",
            f'P={self.folder}; [ "$1" = --version ] && echo 0.1.0 && exit; PLAN=$1; OUT=$3; exec >"$OUT"\n{script}\n',
        )

    def bundle(self) -> Bundle:
        folder = self.folder / "bundle"
        folder.mkdir(exist_ok=True)
        shutil.copy(self.bin / "runner-program", folder / "hilnas-runner")
        write_manifest(folder, "aarch64", "0.1.0", "1.5.1", None)
        return Bundle.load(folder)

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}", "HILNAS_PHONE_ROOT": str(self.root),
                "HILNAS_SYSROOT": str(self.folder), "HILNAS_EMULATOR": ""}  # fmt: skip


class LocalTransport:
    """``fail`` is called before every command, push and pull with what it is; what it raises is the fault."""

    def __init__(self, phone: LocalPhone, fail: Callable[[str], None] = lambda what: None) -> None:
        self._phone, self._fail, self._traffic = phone, fail, Traffic()
        self.log: list[str] = []
        self.connects = 0

    serial = "local"

    @property
    def traffic(self) -> Traffic:
        return self._traffic

    def connect(self) -> None:
        self._meet("connect")
        self.connects += 1

    def shell(self, command: str, timeout_s: float = 30.0, on_line: OnLine | None = None) -> ShellResult:
        self._meet(f"shell {command}")
        process = subprocess.Popen(
            ["sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=self._phone.environment(), cwd=self._phone.folder, start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        with process:
            lines = []
            try:
                for line in process.stdout:
                    lines.append(line)
                    if on_line:
                        on_line(line.rstrip("\n"))
            except BaseException:
                process.kill()
                raise
            errors = process.stderr.read()
        return ShellResult(process.wait(), "".join(lines), errors)

    def push(self, source: Path, target: str, mode: int = 0o644, progress: Progress | None = None) -> None:
        self._meet(f"push {target}")
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        Path(target).chmod(mode)
        self._traffic.bytes_pushed += source.stat().st_size

    def pull(self, source: str, target: Path) -> None:
        self._meet(f"pull {source}")
        shutil.copyfile(source, target)

    def close(self) -> None:
        """Nothing to close."""

    def _meet(self, what: str) -> None:
        self._traffic.round_trips += 1
        self.log.append(what)
        self._fail(what)


class CutOnce:
    """Cuts the connection at the n-th command whose words contain ``sign``, ``down`` connects long."""

    def __init__(self, sign: str, down: int = 0, at: int = 1) -> None:
        self._sign, self._left, self._at = sign, down, at
        self.cut = False

    def __call__(self, what: str) -> None:
        if self.cut and what == "connect" and self._left > 0:
            self._left -= 1
            raise PhoneOffline("local", "still away")
        if not self.cut and self._sign in what:
            self._at -= 1
            if self._at == 0:
                self.cut = True
                raise PhoneOffline("local", "cut")


def wait_until(look: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not look():
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.05)


def block(folder: Path, size: int, fill: int = 7) -> tuple[str, Path]:
    """A file named by its digest."""
    content = bytes([fill]) * size
    digest = hashlib.sha256(content).hexdigest()
    path = folder / f"{digest}.pte"
    path.write_bytes(content)
    return digest, path
