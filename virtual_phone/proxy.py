"""A proxy in front of adbd: checks keys as a phone does, counts messages, and cuts the connection on request.

Debian's adbd asks for no key; the handshake is played here, before the first message reaches it. Afterwards bytes pass
through unchanged and only the 24-byte message headers are looked at.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass

from foundation.errors import InvalidConfig
from virtual_phone.auth import KeyRing

HEADER = struct.Struct("<6I")
CNXN, AUTH, OPEN = (int.from_bytes(name, "little") for name in (b"CNXN", b"AUTH", b"OPEN"))
TOKEN, SIGNATURE, RSA_KEY = 1, 2, 3
PROTOCOL = 0x01000001
CHUNK = 1 << 18
MAX_HANDSHAKE = 1 << 16


@dataclass
class Traffic:
    """``opens`` are A_OPEN messages: one per shell command, push or pull, so the number of round trips."""

    opens: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class AdbProxy:
    """``backend`` connects to adbd; ``banner`` rewrites the phone's self-description."""

    def __init__(
        self, port: int, backend: Callable[[], socket.socket], keys: KeyRing, banner: Callable[[bytes], bytes]
    ) -> None:
        self._port, self._backend, self._keys, self._banner = port, backend, keys, banner
        self.traffic = Traffic()
        self._lock, self._open = threading.Lock(), set[socket.socket]()
        self._cut_after: int | None = None
        self._on_cut: Callable[[], None] = lambda: None
        self._socket: socket.socket | None = None
        self._is_listening = False

    @property
    def port(self) -> int:
        return self._port

    def listen(self) -> None:
        """Accepts connections from now on; does nothing if it already does."""
        if self._is_listening:
            return
        self._socket = self._socket or self._bind()
        self._socket.listen(16)
        self._is_listening = True
        threading.Thread(target=self._accept, args=(self._socket,), name="phone-proxy", daemon=True).start()

    def unplug(self) -> None:
        """Resets every connection and accepts none until ``listen``; the port stays reserved."""
        if self._is_listening and self._socket is not None:
            self._is_listening = False
            _reset(self._socket)
            self._socket = self._bind()
        with self._lock:
            sockets, self._open = self._open, set()
        for connection in sockets:
            _reset(connection)

    def close(self) -> None:
        self.unplug()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def cut_after(self, num_bytes: int, on_cut: Callable[[], None]) -> None:
        """Cuts the connection after that many more bytes, in either direction."""
        with self._lock:
            self._cut_after, self._on_cut = num_bytes, on_cut

    def _bind(self) -> socket.socket:
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(("127.0.0.1", self._port))
        except OSError as error:
            bound.close()
            raise InvalidConfig(f"port {self._port} of 127.0.0.1 is in use; choose another --port, or 0") from error
        self._port = bound.getsockname()[1]
        return bound

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open.add(client)
            if listener is not self._socket:  # unplugged in between
                _reset(client)
                return
            threading.Thread(target=self._session, args=(client,), name="phone-session", daemon=True).start()

    def _session(self, client: socket.socket) -> None:
        phone: socket.socket | None = None
        try:
            hello = _read(client)
            if hello[0] != CNXN or not self._authorized(client):
                return
            phone = self._backend()
            with self._lock:
                self._open.add(phone)
            _send(phone, *hello)
            command, arg0, arg1, banner = _read(phone)
            _send(client, command, arg0, arg1, self._banner(banner))
            back = threading.Thread(target=self._pump, args=(phone, client, False), name="phone-out", daemon=True)
            back.start()
            self._pump(client, phone, True)
            back.join()
        except (OSError, EOFError, ValueError):
            pass
        finally:
            for connection in (client, phone):
                if connection is not None:
                    with self._lock:
                        self._open.discard(connection)
                    connection.close()

    def _authorized(self, client: socket.socket) -> bool:
        """AOSP's order: a token, signatures with every key of the client, finally its public key for the owner."""
        while True:
            token = os.urandom(20)
            _send(client, AUTH, TOKEN, 0, token)
            command, kind, _, data = _read(client)
            if command != AUTH:
                return False
            if kind == SIGNATURE and self._keys.knows(token, data):
                return True
            if kind == RSA_KEY:
                return self._asks_owner(client, data.rstrip(b"\x00").decode(errors="replace"))

    def _asks_owner(self, client: socket.socket, key: str) -> bool:
        while not self._keys.accepts:
            if select.select([client], [], [], 0.1)[0]:
                return False  # the client gave up or starts over: nothing else is allowed now
        self._keys.add(key)
        return True

    def _pump(self, source: socket.socket, target: socket.socket, is_inward: bool) -> None:
        headers = HeaderReader()
        try:
            while data := source.recv(CHUNK):
                passed = self._count(headers, data, is_inward)
                target.sendall(data[:passed])
                if passed < len(data):
                    self._on_cut()
                    return
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:  # what `unplug` took out is reset, not ended politely
                ended = self._open & {source, target}
            for connection in ended:
                _shutdown(connection)

    def _count(self, headers: HeaderReader, data: bytes, is_inward: bool) -> int:
        """How many of these bytes to forward before the cut."""
        commands = headers.feed(data)
        with self._lock:
            passed = len(data)
            if self._cut_after is not None:
                passed = min(passed, self._cut_after)
                self._cut_after -= passed
                if passed < len(data):
                    self._cut_after = None
            if is_inward:
                self.traffic.opens += commands.count(OPEN)
                self.traffic.bytes_in += passed
            else:
                self.traffic.bytes_out += passed
            return passed


class HeaderReader:
    """Finds message headers in a stream that arrives in arbitrary pieces."""

    def __init__(self) -> None:
        self._header, self._payload_left = b"", 0

    def feed(self, data: bytes) -> list[int]:
        """Commands of the headers completed by these bytes."""
        found, position = [], 0
        while position < len(data):
            skipped = min(self._payload_left, len(data) - position)
            self._payload_left -= skipped
            position += skipped
            taken = data[position : position + HEADER.size - len(self._header)] if not self._payload_left else b""
            self._header += taken
            position += len(taken)
            if len(self._header) == HEADER.size:
                command, _, _, self._payload_left, _, magic = HEADER.unpack(self._header)
                if magic != command ^ 0xFFFFFFFF:
                    raise ValueError("not an adb message")
                found.append(command)
                self._header = b""
        return found


def _read(connection: socket.socket) -> tuple[int, int, int, bytes]:
    command, arg0, arg1, length, _, magic = HEADER.unpack(_exactly(connection, HEADER.size))
    if magic != command ^ 0xFFFFFFFF or length > MAX_HANDSHAKE:
        raise ValueError("not an adb message")
    return command, arg0, arg1, _exactly(connection, length)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def _send(connection: socket.socket, command: int, arg0: int, arg1: int, data: bytes) -> None:
    header = HEADER.pack(command, arg0, arg1, len(data), sum(data) & 0xFFFFFFFF, command ^ 0xFFFFFFFF)
    connection.sendall(header + data)


def _shutdown(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _reset(connection: socket.socket) -> None:
    """Resets, so that the other end notices at once; shutdown wakes the thread that reads here."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RD)
    connection.close()
