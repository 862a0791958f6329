"""Which phones to use, and the transport to each."""

from __future__ import annotations

import socket
from pathlib import Path

from device_agents.transports.address import split_address
from device_agents.transports.base import Transport
from device_agents.transports.errors import USB_DEVICES, usb_phones
from foundation.errors import InvalidConfig

ADB_SERVER = ("127.0.0.1", 5037)


def named_phones(serials: list[str], addresses: list[str], usb: Path = USB_DEVICES) -> list[str]:
    """The given phones, else every phone on USB that offers debugging."""
    for address in addresses:
        split_address(address)
    found = [*serials, *addresses] or usb_phones(usb)
    if not found:
        raise InvalidConfig(
            "no phone on USB offers debugging: plug one in with Developer options > USB debugging on (Samsung: Auto "
            "Blocker off), or name one with --serial or --connect HOST:PORT"
        )
    return list(dict.fromkeys(found))


def choose_transport(address: str, adb: str | None, key: Path | None) -> Transport:
    """Google's adb server if requested or if it already owns USB; else the built-in client. Raises InvalidConfig for
    what is neither a serial number nor HOST:PORT."""
    if ":" in address:
        split_address(address)
    if adb is not None or (":" not in address and server_runs()):
        from device_agents.transports.adb_server import AdbServerTransport

        return AdbServerTransport(address, adb)
    try:
        from device_agents.transports.adb_shell import AdbShellTransport
    except ImportError as error:
        raise InvalidConfig("phones need the extra `phone`: pip install 'hilnas[phone]', or give --adb") from error
    return AdbShellTransport(address, key)


def server_runs() -> bool:
    """An adb server on this host holds the USB interface: two owners would fight over it."""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(ADB_SERVER) == 0
