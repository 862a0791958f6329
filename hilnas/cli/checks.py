"""Values of a command line, checked before any work is done for them."""

from __future__ import annotations

import math
import os
from pathlib import Path

from contracts.device import DEFAULT_THREADS
from foundation.cpus import usable_cpus
from foundation.errors import InvalidConfig
from foundation.files import shown


def require_writable_folder(folder: Path, option: str) -> None:
    """The folder is made where it is absent. Raises InvalidConfig where files cannot be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidConfig(f"{option}: the folder {shown(str(folder))} cannot be made: {reason}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidConfig(f"{option}: nothing can be written to the folder {shown(str(folder))}")


def require_writable_file(path: Path, option: str) -> None:
    """Raises InvalidConfig where a file could not be written: its folder is absent or closed, or it is a folder."""
    if not path.parent.is_dir():
        raise InvalidConfig(f"{option}: there is no folder {shown(str(path.parent))}; make it first")
    if path.is_dir():
        raise InvalidConfig(f"{option}: {shown(str(path))} is a folder; give the name of a file")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InvalidConfig(f"{option}: {shown(str(path))} cannot be written")


def require_threads(threads: int, cores: int | None = None) -> None:
    """Of this machine unless ``cores`` says how many a device has; 0 where it does not know."""
    most = usable_cpus() if cores is None else cores
    if most > 0 and threads > max(most, DEFAULT_THREADS):
        where = "this machine may use" if cores is None else "the device has"
        raise InvalidConfig(f"--threads {threads}: {where} {most} cores; give at most {most}")


def number_of(text: str, example: str) -> float:
    """Raises InvalidConfig for what is no finite number."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InvalidConfig(f"{example}; got {shown(text)!r}, which is no finite number")
    return number
