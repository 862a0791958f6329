"""adb through a Python client (adb-shell): plain TCP and USB, nothing to install. The default.

Over USB it claims the interface, so no adb server may run on the host, and it does not support TLS pairing: use
``adb_server`` for both.
"""

from __future__ import annotations

import contextlib
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adb_shell import exceptions
from adb_shell.adb_device import AdbDevice, AdbDeviceUsb
from adb_shell.transport.tcp_transport import TcpTransport

from device_agents.transports.address import split_address
from device_agents.transports.base import OnLine, Progress, ShellResult, Traffic
from device_agents.transports.errors import PhoneError, PhoneFull, PhoneOffline, PhoneUnauthorized, absent_or_blocked
from device_agents.transports.keys import default_key, load_signer

try:
    from usb1 import USBError
except (ImportError, OSError):  # no libusb on this host: TCP still works
    USBError = OSError

CONNECT_S = 10.0
CUT = (
    exceptions.AdbConnectionError, exceptions.AdbTimeoutError, exceptions.InvalidCommandError,
    exceptions.InvalidChecksumError, exceptions.InvalidResponseError, exceptions.TcpTimeoutException,
    exceptions.UsbReadFailedError, exceptions.UsbWriteFailedError, OSError, USBError,
)  # fmt: skip
NO_SPACE = ("no space left", "enospc")


class PromptTcp(TcpTransport):
    """Sends small messages at once: with Nagle's algorithm each file and command waits 40 ms for a late answer."""

    def connect(self, transport_timeout_s: float | None) -> None:
        super().connect(transport_timeout_s)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class AdbShellTransport:
    """``address`` is host:port for TCP, else the serial number of a phone on USB."""

    def __init__(self, address: str, key: Path | None = None, accept_s: float = 20.0) -> None:
        """``accept_s``: how long to wait for the dialog on the phone."""
        self._address, self._key, self._accept_s = address, key or default_key(), accept_s
        self._traffic = Traffic()
        self._device: AdbDevice | None = None

    @property
    def serial(self) -> str:
        return self._address

    @property
    def traffic(self) -> Traffic:
        return self._traffic

    def connect(self) -> None:
        self.close()
        device = self._open()
        signer = load_signer(self._key)
        waiting: list[bool] = []
        try:
            device.connect(
                [signer], transport_timeout_s=CONNECT_S, auth_timeout_s=self._accept_s,
                auth_callback=lambda _: waiting.append(True),
            )  # fmt: skip
        except exceptions.DeviceAuthError as error:
            raise PhoneUnauthorized(self.serial) from error
        except CUT as error:
            device.close()
            if waiting:
                raise PhoneUnauthorized(self.serial) from error
            raise usb_refusal(self.serial, error) or absent_or_blocked(self.serial) from error
        self._device = device

    def _open(self) -> AdbDevice:
        if ":" in self._address:
            host, port = split_address(self._address)
            return AdbDevice(PromptTcp(host, port), default_transport_timeout_s=CONNECT_S)
        try:
            return AdbDeviceUsb(serial=self._address, default_transport_timeout_s=CONNECT_S)
        except (exceptions.UsbDeviceNotFoundError, exceptions.InvalidTransportError) as error:
            raise absent_or_blocked(self.serial) from error

    def shell(self, command: str, timeout_s: float = 30.0, on_line: OnLine | None = None) -> ShellResult:
        mark = f"hilnas-{uuid.uuid4().hex}"
        out = LineBuffer(on_line, mark)
        with self._talking() as device:
            # the service `exec:` is raw: no terminal that would turn \n into \r\n
            for chunk in device._streaming_service(
                b"exec", with_exit_mark(command, mark).encode(), transport_timeout_s=timeout_s,
                read_timeout_s=timeout_s, decode=False,
            ):  # fmt: skip
                out.feed(chunk)
        return out.result(self.serial)

    def push(self, source: Path, target: str, mode: int = 0o644, progress: Progress | None = None) -> None:
        size, sent = source.stat().st_size, [0]

        def count(_: str, written: int, __: int) -> None:
            sent[0] += written
            if progress:
                progress(sent[0], size)

        try:
            with self._talking() as device:
                device.push(str(source), target, st_mode=0o100000 | mode, progress_callback=count)
        except exceptions.PushFailedError as error:
            raise refused(self.serial, target, str(error)) from error
        self._traffic.bytes_pushed += size

    def pull(self, source: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._talking() as device:
                device.pull(source, str(target))
        except exceptions.AdbCommandFailureException as error:
            raise FileNotFoundError(f"{source} is not on phone {self.serial}: {error}") from error
        self._traffic.bytes_pulled += target.stat().st_size

    def close(self) -> None:
        if self._device is not None:
            with contextlib.suppress(*CUT):
                self._device.close()
            self._device = None

    @contextlib.contextmanager
    def _talking(self) -> Iterator[Any]:
        """One service. Whatever breaks it leaves the stream unusable, so the connection is closed with it."""
        if self._device is None:
            raise PhoneOffline(self.serial, "not connected")
        self._traffic.round_trips += 1
        try:
            yield self._device
        except CUT as error:
            self.close()
            raise PhoneOffline(self.serial, type(error).__name__) from error
        except (exceptions.PushFailedError, exceptions.AdbCommandFailureException):
            raise
        except BaseException:
            self.close()
            raise


def with_exit_mark(command: str, mark: str) -> str:
    """``command`` with stderr and exit code after a mark, since the service has only one stream; stdout is live."""
    return (
        "exec 3>&1; err=$( { " + command + "\n} 2>&1 1>&3 3>&- ); rc=$?; "
        f"printf '{mark} %d %s' $rc \"$err\""
    )  # fmt: skip


def usb_refusal(serial: str, error: BaseException) -> PhoneError | None:
    """The explanation of libusb's busy and access errors."""
    name = type(error).__name__
    if "Busy" in name:
        return PhoneError(
            f"phone {serial} is held by another program, most likely an adb server: `adb kill-server`, or give --adb"
        )
    if "Access" in name:
        return PhoneError(
            f"this user may not open phone {serial} on USB: install the udev rules (Debian, Ubuntu: apt-get install "
            "android-sdk-platform-tools-common) and plug it in again"
        )
    return None


class LineBuffer:
    """Splits the output of ``with_exit_mark`` into live lines of stdout, exit code and stderr."""

    def __init__(self, on_line: OnLine | None, mark: str) -> None:
        self._on_line, self._mark = on_line, mark.encode()
        self._data, self._sent = bytearray(), 0

    def feed(self, chunk: bytes) -> None:
        self._data += chunk
        while self._on_line and (end := self._data.find(b"\n", self._sent)) >= 0:
            line = self._data[self._sent : end]
            self._sent = end + 1
            if not line.startswith(self._mark):
                self._on_line(line.decode(errors="replace"))

    def result(self, serial: str, output: str = "") -> ShellResult:
        out, found, rest = bytes(self._data).rpartition(self._mark)
        if not found:
            raise PhoneOffline(serial, output or "the command was cut off")
        code, _, err = rest.lstrip().partition(b" ")
        return ShellResult(int(code), out.decode(errors="replace"), err.decode(errors="replace"))


def refused(serial: str, target: str, output: str) -> PhoneError:
    """The error for a file that the phone refused: PhoneFull, or a PhoneError with its own message."""
    if any(sign in output.lower() for sign in NO_SPACE):
        return PhoneFull(serial, target)
    return PhoneError(f"phone {serial} refused {target}: {output}")
