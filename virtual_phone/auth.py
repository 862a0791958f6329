"""The phone's side of adb's key check: does a signature come from a key that the owner allowed?

A key travels as base64 of Android's own structure: size in words, Montgomery constant, modulus, R², exponent, all
little endian. A signature is RSA PKCS#1 v1.5 over the 20-byte token, which takes the place of a SHA-1 digest.
"""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass
from pathlib import Path

SHA1_PREFIX = bytes.fromhex("3021300906052b0e03021a05000414")


@dataclass(frozen=True)
class PublicKey:
    modulus: int
    exponent: int

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        data = base64.b64decode(text.split()[0])
        size = struct.unpack_from("<I", data)[0] * 4
        exponent = struct.unpack_from("<I", data, 8 + 2 * size)[0]
        return cls(int.from_bytes(data[8 : 8 + size], "little"), exponent)

    def signed(self, token: bytes, signature: bytes) -> bool:
        size = (self.modulus.bit_length() + 7) // 8
        padding = b"\xff" * (size - 3 - len(SHA1_PREFIX) - len(token))
        expected = b"\x00\x01" + padding + b"\x00" + SHA1_PREFIX + token
        return pow(int.from_bytes(signature, "big"), self.exponent, self.modulus) == int.from_bytes(expected, "big")


class KeyRing:
    """``accepts`` is what the owner answers to "Allow USB debugging?": yes, or not yet."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.accepts = True

    def knows(self, token: bytes, signature: bytes) -> bool:
        return any(PublicKey.parse(line).signed(token, signature) for line in self._lines())

    def add(self, key: str) -> None:
        if key not in self._lines():
            with self._file.open("a") as stream:
                stream.write(key + "\n")

    def revoke(self) -> None:
        self._file.unlink(missing_ok=True)

    def _lines(self) -> list[str]:
        return self._file.read_text().splitlines() if self._file.exists() else []
