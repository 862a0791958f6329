"""adb through Google's own server and its ``adb`` command: USB fleets, and Wi-Fi phones paired with ``adb pair``."""

from __future__ import annotations

import os
import selectors
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from device_agents.transports.adb_shell import LineBuffer, refused, with_exit_mark
from device_agents.transports.base import OnLine, Progress, ShellResult, Traffic
from device_agents.transports.errors import PhoneOffline, PhoneUnauthorized, absent_or_blocked
from foundation.errors import InvalidConfig

CONNECT_S = 15.0
PUSH_S = 600.0
UNDECIDED = ("unauthorized", "authorizing", "connecting")
LOST = (
    "not found",
    "offline",
    "no devices",
    "closed",
    "protocol fault",
    "connection reset",
    "couldn't read",
    "broken pipe",
)
NO_FILE = ("no such file", "does not exist", "failed to stat")


class AdbServerTransport:
    """``serial`` as ``adb devices`` prints it (host:port for a phone on Wi-Fi, which is then connected first)."""

    def __init__(self, serial: str, adb: str | None = None, port: int | None = None, accept_s: float = 20.0) -> None:
        """``accept_s``: how long to wait for the dialog on the phone."""
        self._serial, self._adb = serial, find_adb(adb)
        self._port, self._accept_s = port, accept_s
        self._traffic = Traffic()

    @property
    def serial(self) -> str:
        return self._serial

    @property
    def traffic(self) -> Traffic:
        return self._traffic

    def connect(self) -> None:
        if ":" in self._serial:
            self._run(["disconnect", self._serial], CONNECT_S)
            self._run(["connect", self._serial], CONNECT_S)
        deadline = time.monotonic() + self._accept_s
        while (state := self.state()) in UNDECIDED and time.monotonic() < deadline:
            time.sleep(0.2)
        self._require(state)

    def state(self) -> str:
        """device, offline, unauthorized … as the server reports it; absent if the server does not list the phone."""
        listed = self._run(["devices"], CONNECT_S).stdout.splitlines()
        rows = dict(line.split("\t", 1) for line in listed if "\t" in line)
        return rows.get(self._serial, "absent")

    def _require(self, state: str) -> None:
        if state == "device":
            return
        if state in UNDECIDED:
            raise PhoneUnauthorized(self._serial)
        if state == "absent":
            raise absent_or_blocked(self._serial)
        raise PhoneOffline(self._serial, state)

    def shell(self, command: str, timeout_s: float = 30.0, on_line: OnLine | None = None) -> ShellResult:
        """A mark at the end of the output distinguishes a finished command from an interrupted one: ``adb`` itself may
        report success for both."""
        self._traffic.round_trips += 1
        mark = f"hilnas-{uuid.uuid4().hex}"
        out = LineBuffer(on_line, mark)
        output = self._stream([*self._to_phone(), "shell", "-T", with_exit_mark(command, mark)], timeout_s, out.feed)
        return out.result(self._serial, output)

    def push(self, source: Path, target: str, mode: int = 0o644, progress: Progress | None = None) -> None:
        """Google's client sends the mode of the local file; another one is set afterwards, in one more round trip."""
        self._traffic.round_trips += 1
        done = self._run(["push", str(source), target], PUSH_S)
        if done.returncode:
            self._raise(done.stdout + done.stderr, target)
        size = source.stat().st_size
        self._traffic.bytes_pushed += size
        if progress:
            progress(size, size)
        if mode & 0o111 and not os.access(source, os.X_OK):
            self.shell(f"chmod {mode:o} '{target}'")

    def pull(self, source: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        self._traffic.round_trips += 1
        done = self._run(["pull", source, str(target)], PUSH_S)
        output = done.stdout + done.stderr
        if done.returncode and any(sign in output.lower() for sign in NO_FILE):
            raise FileNotFoundError(f"{source} is not on phone {self._serial}")
        if done.returncode:
            self._raise(output, source)
        self._traffic.bytes_pulled += target.stat().st_size

    def close(self) -> None:
        """The server keeps the connection to the phone; there is nothing to close."""

    def stop_server(self) -> None:
        """Ends the server itself: for one that we started on a separate port."""
        self._run(["kill-server"], CONNECT_S)

    def _raise(self, output: str, target: str) -> None:
        if _is_lost(output) and "no space" not in output.lower():
            raise PhoneOffline(self._serial, output.strip().splitlines()[-1])
        raise refused(self._serial, target, output.strip())

    def _to_phone(self) -> list[str]:
        return [*self._server(), "-s", self._serial]

    def _server(self) -> list[str]:
        return [self._adb, *(["-P", str(self._port)] if self._port else [])]

    def _run(self, arguments: list[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
        own = arguments[0] in ("devices", "connect", "disconnect", "kill-server")
        command = [*(self._server() if own else self._to_phone()), *arguments]
        try:
            return subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=timeout_s,
                stdin=subprocess.DEVNULL, check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise PhoneOffline(self._serial, f"no answer within {timeout_s:.0f} s") from error

    def _stream(self, command: list[str], timeout_s: float, feed: Callable[[bytes], None]) -> str:
        """Feeds stdout as it arrives and returns stderr."""
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        assert process.stdout is not None and process.stderr is not None
        with process, selectors.DefaultSelector() as ready:
            ready.register(process.stdout, selectors.EVENT_READ)
            try:
                while ready.select(timeout_s):
                    chunk = os.read(process.stdout.fileno(), 1 << 16)
                    if not chunk:
                        return process.stderr.read().decode(errors="replace").strip()
                    feed(chunk)
            finally:
                process.kill()
        raise PhoneOffline(self._serial, f"silent for {timeout_s:.0f} s")


def find_adb(given: str | None) -> str:
    found = shutil.which(given or os.environ.get("HILNAS_ADB", "adb"))
    if not found:
        raise InvalidConfig(
            f"{given or 'adb'} is not on the PATH: install it (Debian, Ubuntu: apt-get install adb) or leave --adb out "
            "to use the built-in client"
        )
    return found


def _is_lost(output: str) -> bool:
    return any(sign in output.lower() for sign in LOST)
