"""Addresses of phones on a network, checked before anything is started for them."""

from __future__ import annotations

import re

from foundation.errors import InvalidConfig

HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
IPV6 = re.compile(r"\[[0-9A-Fa-f:.]+(%[A-Za-z0-9]+)?\]")


def split_address(text: str) -> tuple[str, int]:
    """Host and port of ``192.168.1.20:5555``, ``phone.local:5555`` or ``[fe80::1]:5555``, brackets removed. Raises
    InvalidConfig for anything else."""
    example = "--connect takes HOST:PORT, e.g. 192.168.1.20:5555"
    if text.count(":") > 1 and "]" not in text:
        raise InvalidConfig(f"an IPv6 address needs brackets and a port, e.g. [{text}]:5555; got {text!r}")
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        raise InvalidConfig(f"{example}; the port is missing in {text!r}")
    if not (HOST.fullmatch(host) or IPV6.fullmatch(host)):
        missing = "the host is missing" if not host else f"{host!r} is no host"
        raise InvalidConfig(f"{example}; {missing} in {text!r}")
    if not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise InvalidConfig(f"{example}; a port is a number from 1 to 65535, got {text!r}")
    return host.strip("[]"), int(port)
