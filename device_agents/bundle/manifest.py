"""The content of a bundle folder, and its verification.

``manifest.json`` names every file with size, mode and sha256; the digest is the sha256 over that list, so equal
digests mean equal programs wherever they were built.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from foundation.errors import InvalidConfig

FORMAT = 1
MANIFEST = "manifest.json"
RUNNER = "hilnas-runner"


@dataclass(frozen=True)
class BundleFile:
    sha256: str
    bytes: int
    mode: int


@dataclass(frozen=True)
class Bundle:
    """``loader`` is None where the phone's own loader starts the runner (a build with the NDK)."""

    path: Path
    digest: str
    files: dict[str, BundleFile]
    arch: str = "aarch64"
    runner_version: str = ""
    executorch: str = ""
    loader: str | None = None

    @cached_property
    def total_bytes(self) -> int:
        return sum(file.bytes for file in self.files.values())

    @property
    def runner_command(self) -> list[str]:
        """To be run inside the folder, prefixed with an emulator on a machine that is not aarch64."""
        if self.loader is None:
            return [f"./{RUNNER}"]
        return [f"./{self.loader}", "--library-path", ".", f"./{RUNNER}"]

    @classmethod
    def load(cls, path: Path) -> Bundle:
        """Verifies every file. Raises InvalidConfig naming a file that was changed."""
        try:
            document = json.loads((path / MANIFEST).read_text())
            files = {name: BundleFile(**entry) for name, entry in document["files"].items()}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidConfig(
                f"no valid phone bundle in {path} ({error}); `hilnas bundle android-arm64` builds one"
            ) from error
        if document.get("format") != FORMAT:
            raise InvalidConfig(f"{path} has bundle format {document.get('format')}, this version reads {FORMAT}")
        for name, file in files.items():
            if not (path / name).is_file() or sha256_of(path / name) != file.sha256:
                raise InvalidConfig(f"{path / name} does not match the bundle's manifest; build the bundle again")
        known = {key: document[key] for key in ("arch", "runner_version", "executorch", "loader") if key in document}
        bundle = cls(path, digest_of(files), files, **known)
        if bundle.digest != document["digest"]:
            raise InvalidConfig(f"{path / MANIFEST} has digest {document['digest']}, its files have {bundle.digest}")
        return bundle


def write_manifest(path: Path, arch: str, runner_version: str, executorch: str, loader: str | None) -> str:
    """Lists the files in ``path`` and returns the digest."""
    files = {
        file.name: BundleFile(sha256_of(file), file.stat().st_size, file.stat().st_mode & 0o777)
        for file in sorted(path.iterdir())
        if file.name != MANIFEST
    }
    document: dict[str, Any] = {
        "format": FORMAT, "arch": arch, "runner_version": runner_version, "executorch": executorch, "loader": loader,
        "files": {name: asdict(file) for name, file in files.items()}, "digest": digest_of(files),
    }  # fmt: skip
    (path / MANIFEST).write_text(json.dumps(document, indent=1) + "\n")
    return str(document["digest"])


def digest_of(files: dict[str, BundleFile]) -> str:
    lines = (f"{name} {file.sha256} {file.bytes} {file.mode:o}\n" for name, file in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
