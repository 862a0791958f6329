"""Starts adbd so that its shells see a phone: stand-ins first on the PATH, files below the state folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from device_agents.bundle.toolchain import find_emulator
from foundation.errors import HilnasError, InvalidConfig
from foundation.files import atomic_path
from virtual_phone.debian import CACHE, adbd_command, fetch_adbd
from virtual_phone.processes import MARK
from virtual_phone.system import PhoneFiles

HOST_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
SHIM, INIT = Path(__file__).with_name("shim.c"), Path(__file__).with_name("init.py")
START_S = 10.0


def build_shim() -> Path:
    """Compiles shim.c once per content."""
    library = CACHE / f"shim-{hashlib.sha256(SHIM.read_bytes()).hexdigest()[:16]}.so"
    if not library.exists():
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            raise InvalidConfig("the virtual phone needs a C compiler (Debian, Ubuntu: apt-get install gcc)")
        with atomic_path(library) as partial:
            command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(partial), str(SHIM), "-ldl"]
            subprocess.run(command, check=True)
    return library


def shell_environment(files: PhoneFiles) -> dict[str, str]:
    """The environment of every command on the phone. qemu passes its own to the program, except the host's preload."""
    emulator = find_emulator()
    if emulator:
        emulator = [*emulator, "-cpu", files.record["qemu_cpu"], "-U", "LD_PRELOAD"]
    return {
        "PATH": f"{files.state / 'bin'}:{HOST_PATH}", "LANG": "C.UTF-8",
        "HILNAS_PHONE_ROOT": str(files.root), "HILNAS_SYSROOT": str(files.sysroot),
        "HILNAS_PHONE_STATE": str(files.state),
        "HILNAS_EMULATOR": " ".join(emulator),
    }  # fmt: skip


class Adbd:
    """The daemon, on a free loopback port; clients reach it through the proxy."""

    def __init__(self, files: PhoneFiles) -> None:
        self._files, self.port = files, 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = adbd_command(fetch_adbd())
        if set(self._files.cpus) != os.sched_getaffinity(0):
            taskset = shutil.which("taskset") or "/usr/bin/taskset"
            command = [taskset, "--cpu-list", ",".join(map(str, self._files.cpus)), *command]
        init = [sys.executable, "-I", "-S", str(INIT), f"{MARK}={self._files.state}"]
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        environment = {
            **shell_environment(self._files), "ADBD_PORT": str(self.port), "LD_PRELOAD": str(build_shim()),
        }  # fmt: skip
        with open(self._files.state / "adbd.log", "wb") as log:
            self._process = subprocess.Popen(
                [*init, *command], env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log,
                start_new_session=True, cwd=self._files.root,
            )  # fmt: skip
        self._wait()

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=5.0)
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def wait_gone(self) -> None:
        if self._process is not None:
            self._process.communicate()
            self._process = None

    def _wait(self) -> None:
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            if self._process is not None and self._process.poll() is not None:
                break
            try:
                self.connect().close()
                return
            except OSError:
                time.sleep(0.02)
        words = (self._files.state / "adbd.log").read_text(errors="replace").strip().splitlines()
        raise HilnasError(f"adbd did not start: {words[-1] if words else 'no output'}")
