"""Build dependencies of a bundle: an aarch64 compiler, an emulator for tests, ExecuTorch's aarch64 wheel, JSON.

Everything comes from package registries (Debian's and PyPI's); if something is missing, the error has the command that
installs it.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from foundation.errors import InvalidConfig
from foundation.files import atomic_folder

ROOT = Path(__file__).parents[2]
DEFAULT_COMPILER = "aarch64-linux-gnu-g++"
INSTALL = "apt-get install g++-aarch64-linux-gnu qemu-user-static"
WHEEL_PLATFORM = ("--python-version", "3.11", "--implementation", "cp", "--platform", "manylinux_2_28_aarch64")
SDK_FOLDERS = ("executorch/include/", "executorch/lib/", "executorch/share/")


@dataclass(frozen=True)
class Compiler:
    command: str

    @classmethod
    def find(cls, command: str = DEFAULT_COMPILER) -> Compiler:
        found = shutil.which(command)
        if found is None:
            raise InvalidConfig(f"compiler {command} not found; install one (Debian, Ubuntu: {INSTALL})")
        target = _output([found, "-dumpmachine"])
        if not target.startswith(("aarch64", "arm64")):
            raise InvalidConfig(f"{command} compiles for {target}, a phone needs aarch64 ({DEFAULT_COMPILER})")
        return cls(found)

    def library(self, name: str) -> Path | None:
        """Path of a system library of the compiler; None if it has no such library."""
        path = Path(_output([self.command, f"-print-file-name={name}"]))
        return path.resolve() if path.is_absolute() and path.exists() else None

    def tool(self, name: str) -> str:
        return _output([self.command, f"-print-prog-name={name}"])

    def identity(self) -> str:
        return _output([self.command, "--version"]).splitlines()[0]


def find_emulator() -> list[str]:
    """The command to prefix an aarch64 program with; empty on an aarch64 machine."""
    if platform.machine() in ("aarch64", "arm64"):
        return []
    for name in ("qemu-aarch64-static", "qemu-aarch64"):
        if path := shutil.which(name):
            return [path]
    raise InvalidConfig(f"this {platform.machine()} machine has no qemu-aarch64 to run phone programs; {INSTALL}")


def pinned_executorch() -> str:
    """The version that programs are exported with: the runner must match it."""
    lock = ROOT / "requirements.lock"
    if lock.exists() and (line := re.search(r"^executorch==(\S+)$", lock.read_text(), re.MULTILINE)):
        return line[1]
    return importlib.metadata.version("executorch")


def executorch_sdk(version: str, cache: Path) -> Path:
    """ExecuTorch's C++ SDK for aarch64: include, lib and share of its wheel, downloaded once."""
    folder = cache / f"executorch-{version}"
    if not folder.exists():
        wheels = cache / "wheels"
        _download(f"executorch=={version}", wheels)
        found = next(wheels.glob(f"executorch-{version}-*aarch64.whl"))
        with atomic_folder(folder) as partial, zipfile.ZipFile(found) as wheel:
            wheel.extractall(partial, [name for name in wheel.namelist() if name.startswith(SDK_FOLDERS)])
        shutil.rmtree(wheels)
    return folder / "executorch"


def _download(requirement: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", *WHEEL_PLATFORM]
    done = subprocess.run(
        [*command, "--dest", str(folder), requirement], capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode != 0:
        last = (done.stderr.strip() or "no message from pip").splitlines()[-1]
        raise InvalidConfig(f"pip could not download the aarch64 wheel of {requirement}: {last}")


def json_include() -> Path:
    for file in importlib.metadata.files("nlohmann-json") or ():
        if str(file).endswith("nlohmann/json.hpp"):
            return Path(str(file.locate())).resolve().parents[1]
    raise InvalidConfig("nlohmann/json.hpp is not installed: pip install 'hilnas[build]'")


def build_tool(name: str) -> str:
    """cmake, ctest and ninja of this virtual environment before those of the system, which may be too old."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise InvalidConfig(f"{name} is not installed: pip install 'hilnas[build]'")
    return found


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=True).stdout.strip()
