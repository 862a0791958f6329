"""adb through Google's own server and its ``adb`` command: USB fleets, and Wi-Fi phones paired with ``adb pair``."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import subprocess
import threading
from pathlib import Path

from device_agents.transports.adb_shell import refused
from device_agents.transports.base import OnLine, Progress, ShellResult, Traffic
from device_agents.transports.errors import PhoneError, PhoneOffline, PhoneUnauthorized, absent_or_blocked
from nas.contracts.errors import InvalidConfig

CONNECT_S = 15.0
PUSH_S = 600.0
LOST = (
    "not found",
    "offline",
    "no devices",
    "closed",
    "protocol fault",
    "connection reset",
    "device still authorizing",
)
NO_FILE = ("no such file", "does not exist", "failed to stat")


class AdbServerTransport:
    """``serial`` as ``adb devices`` prints it (host:port for a phone on Wi-Fi, which is then connected first)."""

    def __init__(self, serial: str, adb: str | None = None, port: int | None = None) -> None:
        self._serial, self._adb = serial, find_adb(adb)
        self._port = port
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
        self._require(self.state())

    def state(self) -> str:
        """device, offline, unauthorized … as the server says; absent when it knows no such phone."""
        listed = self._run(["devices"], CONNECT_S).stdout.splitlines()
        rows = dict(line.split("\t", 1) for line in listed if "\t" in line)
        return rows.get(self._serial, "absent")

    def _require(self, state: str) -> None:
        if state == "device":
            return
        if state in ("unauthorized", "authorizing"):
            raise PhoneUnauthorized(self._serial)
        if state == "absent":
            raise absent_or_blocked(self._serial)
        raise PhoneOffline(self._serial, state)

    def shell(self, command: str, timeout_s: float = 30.0, on_line: OnLine | None = None) -> ShellResult:
        self._traffic.round_trips += 1
        done = self._stream([*self._to_phone(), "shell", "-T", command], timeout_s, on_line)
        if done.exit_code in (1, 255) and _is_lost(done.stderr):
            raise PhoneOffline(self._serial, done.stderr.strip().splitlines()[-1])
        return done

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
        words = done.stdout + done.stderr
        if done.returncode and any(sign in words.lower() for sign in NO_FILE):
            raise FileNotFoundError(f"{source} is not on phone {self._serial}")
        if done.returncode:
            self._raise(words, source)
        self._traffic.bytes_pulled += target.stat().st_size

    def close(self) -> None:
        """The server keeps the phone; there is nothing of ours to close."""

    def _raise(self, words: str, target: str) -> None:
        if _is_lost(words) and "no space" not in words.lower():
            raise PhoneOffline(self._serial, words.strip().splitlines()[-1])
        raise refused(self._serial, target, words.strip())

    def _to_phone(self) -> list[str]:
        return [*self._server(), "-s", self._serial]

    def _server(self) -> list[str]:
        return [self._adb, *(["-P", str(self._port)] if self._port else [])]

    def _run(self, arguments: list[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
        own = arguments[0] in ("devices", "connect", "disconnect")
        command = [*(self._server() if own else self._to_phone()), *arguments]
        try:
            return subprocess.run(
                command, capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise PhoneOffline(self._serial, f"no answer within {timeout_s:.0f} s") from error

    def _stream(self, command: list[str], timeout_s: float, on_line: OnLine | None) -> ShellResult:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        lines: queue.Queue[str | None] = queue.Queue()
        errors: list[str] = []
        readers = [
            threading.Thread(target=_drain, args=(process.stdout, lines.put), daemon=True),
            threading.Thread(target=lambda: errors.append(process.stderr.read()), daemon=True),  # type: ignore[union-attr]
        ]
        for reader in readers:
            reader.start()
        out: list[str] = []
        try:
            while (line := lines.get(timeout=timeout_s)) is not None:
                out.append(line)
                if on_line:
                    on_line(line.rstrip("\n"))
        except queue.Empty as error:
            raise PhoneOffline(self._serial, f"silent for {timeout_s:.0f} s") from error
        finally:
            if process.poll() is None and lines.empty():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(1.0)
            process.kill()
            with process:
                for reader in readers:
                    reader.join()
        return ShellResult(process.returncode, "".join(out), "".join(errors))


def find_adb(given: str | None) -> str:
    found = shutil.which(given or os.environ.get("HILNAS_ADB", "adb"))
    if not found:
        raise InvalidConfig(
            f"{given or 'adb'} is not on the PATH: install it (Debian, Ubuntu: apt-get install adb) or leave --adb out "
            "to use the built-in client"
        )
    return found


def _drain(pipe: object, put: object) -> None:
    for line in pipe:  # type: ignore[attr-defined]
        put(line)  # type: ignore[operator]
    put(None)  # type: ignore[operator]


def _is_lost(words: str) -> bool:
    return any(sign in words.lower() for sign in LOST) and "sh:" not in words


__all__ = ["AdbServerTransport", "PhoneError", "find_adb"]
