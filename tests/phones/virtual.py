"""Virtual phones for tests: the true adbd, the aarch64 bundle under qemu. A machine that cannot have one skips."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from device_agents.bundle.manifest import Bundle
from device_agents.devices.android.condition import Limits
from device_agents.devices.android.device import AndroidDevice
from device_agents.devices.android.phone import Phone
from device_agents.transports.adb_shell import AdbShellTransport
from device_agents.transports.base import Transport
from foundation.errors import HilnasError
from virtual_phone.phone import VirtualPhone

LIMITS = Limits(poll_s=0.5, wait_s=20.0)


def start(folder: Path, model: str = "s24", **options: object) -> VirtualPhone:
    """Skips where adbd cannot be had, unless HILNAS_REQUIRE_PHONE says that it must."""
    try:
        return VirtualPhone(folder, model=model, **options).start()  # type: ignore[arg-type]
    except HilnasError as error:
        if os.environ.get("HILNAS_REQUIRE_PHONE") == "1":
            raise
        pytest.skip(str(error))


def way_to(phone: VirtualPhone, folder: Path) -> Transport:
    return AdbShellTransport(phone.address, key=folder / "adbkey", accept_s=5.0)


def device_on(
    phone: VirtualPhone, bundle: Bundle, folder: Path, limits: Limits = LIMITS, transport: Transport | None = None
) -> AndroidDevice:
    """A connected device; ``folder`` keeps this host's key."""
    device = AndroidDevice(Phone(transport or way_to(phone, folder), reconnect_s=30.0), bundle, limits=limits)
    device.connect()
    return device
