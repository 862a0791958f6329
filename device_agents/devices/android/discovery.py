"""Which phones to use, and the transport to each."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from device_agents.transports.address import split_address
from device_agents.transports.base import Transport
from device_agents.transports.errors import USB_DEVICES, usb_phones
from foundation.errors import HilnasError, InvalidConfig

ADB_SERVER = ("127.0.0.1", 5037)
# Short names of models -> how ro.product.model begins; the letter after it is the market (SM-S921B, SM-S921U).
MODELS = {
    "s24": "SM-S921", "s24+": "SM-S926", "s24ultra": "SM-S928", "s24fe": "SM-S721", "s25": "SM-S931", "s25+": "SM-S936",
    "s25ultra": "SM-S938", "s25edge": "SM-S937", "s25fe": "SM-S731",
}  # fmt: skip


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


def address_of(name: str, usb: Path = USB_DEVICES, model_of: Callable[[str], str] | None = None) -> str:
    """The address of one phone: HOST:PORT or a serial number as it is, else the only phone on USB of that model.

    ``name`` may be the model's own (SM-S921B) or its short one (s24). Raises InvalidConfig with the phones that are
    there. ``model_of`` asks the phone at an address.
    """
    attached = usb_phones(usb)
    if name in attached or (":" in name and name.rpartition(":")[2].isdigit()):
        return name
    wanted = MODELS.get(name.lower().replace(" ", "").replace("_", ""), name)
    models = {address: _model(address, model_of or ask_model) for address in attached}
    found = [address for address, model in models.items() if wanted and model.lower().startswith(wanted.lower())]
    if len(found) == 1:
        return found[0]
    there = ", ".join(f"{address} ({model})" for address, model in models.items()) or "none"
    if found:
        raise InvalidConfig(f"{len(found)} phones are {name}: give the serial number of one; attached: {there}")
    raise InvalidConfig(
        f"no attached phone is {name!r}; attached: {there}. Give a serial number, HOST:PORT, a model such as SM-S921B,"
        f" or one of {', '.join(MODELS)}"
    )


def _model(address: str, model_of: Callable[[str], str]) -> str:
    try:
        return model_of(address)
    except HilnasError as error:
        return f"gives no model: {error}"


def ask_model(address: str) -> str:
    transport = choose_transport(address, None, None)
    try:
        transport.connect()
        return transport.shell("getprop ro.product.model").stdout.strip()
    finally:
        transport.close()
