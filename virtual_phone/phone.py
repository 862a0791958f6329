"""A phone that tests, demos and benchmarks can start, disturb and stop, over the real adb protocol.

    with VirtualPhone(folder, model="s25") as phone:
        ...  # any adb client connects to phone.address
        phone.cut(after_bytes=1_000_000)
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import IO

from foundation.errors import InvalidConfig
from virtual_phone import control
from virtual_phone.auth import KeyRing
from virtual_phone.daemon import Adbd, build_shim
from virtual_phone.debian import fetch_adbd
from virtual_phone.life import Life
from virtual_phone.processes import PhoneProcesses
from virtual_phone.proxy import AdbProxy, Traffic
from virtual_phone.system import MAX_CORES, PhoneFiles


class VirtualPhone:
    """``root`` is the folder that the phone calls HILNAS_PHONE_ROOT; ``port`` 0 takes a free one.

    Faults return at once; what they do ends by itself, or when called with False.
    """

    def __init__(
        self, state: Path, model: str = "s24", port: int = 0, serial: str | None = None, num_cores: int = MAX_CORES
    ) -> None:
        granted = sorted(os.sched_getaffinity(0))[: min(num_cores, MAX_CORES)]
        self.serial = serial or f"VIRTUAL{model.upper()}"
        self._files = PhoneFiles(state.resolve(), model, self.serial, granted)
        self._processes = PhoneProcesses(str(self._files.state))
        self._adbd, self._keys = Adbd(self._files), KeyRing(self._files.state / "adb_keys")
        self._proxy = AdbProxy(port, self._adbd.connect, self._keys, self._banner)
        self._life: Life | None = None
        self._lock: IO[str] | None = None
        self._is_down = False

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._proxy.port}"

    @property
    def root(self) -> Path:
        return self._files.root

    @property
    def traffic(self) -> Traffic:
        return self._proxy.traffic

    def start(self) -> VirtualPhone:
        fetch_adbd()
        build_shim()
        try:
            self._lock_state()
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def _start(self) -> None:
        self._proxy.listen()
        self._processes.kill_all()
        self._files.create()
        self.full_storage(False)
        self.wrong_clock(0)
        self._files.boot()
        self._life = Life(self._files, self._processes.is_busy)
        self._life.mailbox = lambda: control.answer(self._files.state, self)
        self._adbd.start()
        self._life.start()

    def close(self) -> None:
        """Ends all processes and keeps the files."""
        if self._life is not None:
            self._life.stop()
        self._proxy.close()
        if self._lock is not None:
            self._processes.kill_all()
            self._adbd.wait_gone()
            self._lock.close()
            self._lock = None

    def __enter__(self) -> VirtualPhone:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- faults ---------------------------------------------------------------------------------------------------

    def cut(self, after_bytes: int, delay_s: float = 0.5) -> None:
        """The cable is pulled after that many more bytes, and plugged in again after ``delay_s``."""
        self._proxy.cut_after(after_bytes, lambda: self.cut_now(delay_s))

    def cut_now(self, delay_s: float = 0.5) -> None:
        self._proxy.unplug()
        self._running.call_later(delay_s, self._plug_in)

    def reboot(self, down_s: float = 2.0) -> None:
        """All processes are killed; overrides and fixed-performance mode are lost; files and settings are kept."""
        self._is_down = True
        self._proxy.unplug()
        self._processes.kill_all()
        self._adbd.wait_gone()
        self._running.call_later(down_s, self._boot)

    def unauthorized(self, on: bool = True) -> None:
        """The owner revoked all keys and ignores the dialog; False: taps "always allow"."""
        self._keys.accepts = not on
        if on:
            self._keys.revoke()
            self.cut_now(0.0)

    def full_storage(self, on: bool = True) -> None:
        flag = self._files.state / "full"
        if on:
            flag.touch()
        else:
            flag.unlink(missing_ok=True)

    def hot(self, temp_c: float = 44.0, cools_after_s: float = 5.0) -> None:
        self._running.heat(temp_c, cools_after_s)

    def throttle(self, on: bool = True) -> None:
        """From now on caps fall and the thermal status rises while a runner is running, and for some seconds after."""
        self._running.throttles = on

    def kill_runner(self) -> int:
        """Returns how many were killed."""
        runners = self._processes.runners()
        self._processes.kill(runners)
        return len(runners)

    def wrong_clock(self, offset_s: float = 3600.0) -> None:
        self._files.put("clock_offset_s", int(offset_s))

    def no_fixed_mode(self, on: bool = True) -> None:
        """``cmd power set-fixed-performance-mode-enabled`` is refused, as on phones whose vendor left it out."""
        if on:
            self._files.put("power/no_fixed_mode", 1)
        else:
            (self._files.state / "android" / "power" / "no_fixed_mode").unlink(missing_ok=True)

    def battery(self, level: int) -> None:
        self._files.put("battery/level", level)

    # --- inside ---------------------------------------------------------------------------------------------------

    @property
    def _running(self) -> Life:
        if self._life is None:
            raise InvalidConfig("the virtual phone is not started")
        return self._life

    def _plug_in(self) -> None:
        if not self._is_down:
            self._proxy.listen()

    def _boot(self) -> None:
        self._files.boot()
        self._running.boot()
        self._adbd.start()
        self._is_down = False
        self._proxy.listen()

    def _lock_state(self) -> None:
        self._files.state.mkdir(parents=True, exist_ok=True)
        lock = open(self._files.state / ".lock", "w")  # noqa: SIM115 (held until close)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise InvalidConfig(f"a virtual phone runs in {self._files.state}; name another with --state") from error
        self._lock = lock

    def _banner(self, banner: bytes) -> bytes:
        """Adds the product, which Debian's adbd does not know; the features are those of adbd."""
        props = self._files.record["props"]
        names = ";".join(f"{key}={props[key]}" for key in ("ro.product.name", "ro.product.model", "ro.product.device"))
        return f"device::{names};features=".encode() + banner.partition(b"features=")[2]
