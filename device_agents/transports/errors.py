"""Why a phone cannot be used: one error per cause, each with the step to take. All are DeviceLost: the job is requeued.

PhoneError
├── PhoneAbsent        nothing answers at that serial or address
├── PhoneUnauthorized  the phone has not accepted this host's key
├── PhoneOffline       it was there and stopped answering
├── PhoneBlocked       on the USB bus, but debugging is disabled (Auto Blocker, or USB debugging off)
└── PhoneFull          no space left
"""

from __future__ import annotations

from pathlib import Path

from foundation.errors import DeviceLost

USB_DEVICES = Path("/sys/bus/usb/devices")
SAMSUNG = "04e8"
ADB_INTERFACE = ("ff", "42", "01")  # class, subclass, protocol that adbd announces


class PhoneError(DeviceLost):
    code = "phone_error"


class PhoneAbsent(PhoneError):
    code = "phone_absent"

    def __init__(self, serial: str) -> None:
        super().__init__(
            f"no phone answers as {serial}: plug it in and switch on USB debugging (Developer options), or for Wi-Fi "
            "check that phone and host share a network and give --connect HOST:PORT"
        )


class PhoneUnauthorized(PhoneError):
    code = "phone_unauthorized"

    def __init__(self, serial: str) -> None:
        super().__init__(
            f"phone {serial} has not accepted this host's key: unlock it and confirm 'Allow USB debugging' (tick "
            "'Always allow from this computer'); if no dialog shows, revoke USB debugging authorizations and reconnect"
        )


class PhoneOffline(PhoneError):
    code = "phone_offline"

    def __init__(self, serial: str, why: str = "") -> None:
        reason = f" ({why})" if why else ""
        super().__init__(f"phone {serial} stopped answering{reason}: check cable or Wi-Fi and that it is switched on")


class PhoneBlocked(PhoneError):
    code = "phone_blocked"

    def __init__(self, serial: str) -> None:
        super().__init__(
            f"a Samsung phone is on USB but offers no debugging (asked for {serial}): switch off Settings > Security "
            "and privacy > Auto Blocker, then switch on Developer options > USB debugging"
        )


class PhoneFull(PhoneError):
    code = "phone_full"

    def __init__(self, serial: str, target: str) -> None:
        super().__init__(
            f"phone {serial} has no space left for {target.rsplit('/', 1)[-1]}: free some, or clear old blocks with "
            "`hilnas agent clear`"
        )


def absent_or_blocked(serial: str, usb: Path = USB_DEVICES) -> PhoneError:
    """PhoneBlocked if a Samsung phone is on the USB bus with debugging disabled, else PhoneAbsent."""
    for device in usb.glob("*"):
        if _read(device / "idVendor") == SAMSUNG and not _offers_adb(device):
            return PhoneBlocked(serial)
    return PhoneAbsent(serial)


def usb_phones(usb: Path = USB_DEVICES) -> list[str]:
    """Serial numbers of phones on USB that offer debugging."""
    return sorted(
        _read(device / "serial") for device in usb.glob("*") if _read(device / "serial") and _offers_adb(device)
    )


def _offers_adb(device: Path) -> bool:
    names = ("bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol")
    return any(
        tuple(_read(interface / name) for name in names) == ADB_INTERFACE
        for interface in device.glob(f"{device.name}:*")
    )


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
