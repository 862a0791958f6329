"""The kinds of device that an agent can serve, by name. Plugins add their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from device_agents.devices.base import Device
from device_agents.devices.replay import ReplayDevice
from device_agents.devices.served import ServedHostDevice
from foundation.registry import Registry

DEVICE_KINDS: Registry[Callable[[Path, str], Device]] = Registry("device kind")
"""Name -> (home, address) -> a connected device. ``home`` keeps its blocks; the meaning of ``address`` depends on the
kind: a serial number, a host and port, a trace file, or nothing."""


@DEVICE_KINDS.register("host")
def host(home: Path, address: str) -> Device:
    """This machine, with a runner that stays between candidates. The address, if given, is its name."""
    return ServedHostDevice(home / "blocks", name=address or None)


@DEVICE_KINDS.register("android")
def android(home: Path, address: str) -> Device:
    """A phone over adb; the address is its serial number or HOST:PORT."""
    from device_agents.devices.android.command import open_phone

    return open_phone(address)


@DEVICE_KINDS.register("replay")
def replay(home: Path, address: str) -> Device:
    """Recorded runs; the address is the trace file."""
    return ReplayDevice.load(Path(address))
