"""Files and folders that appear complete or not at all, also when the process is killed in between."""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import IO, Any

from foundation.errors import InvalidConfig

MAX_SHOWN = 120  # characters of a path in a message
MACHINE = hashlib.sha256(platform.node().encode()).hexdigest()[:8]  # process ids mean something on one machine only


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replaces ``path`` by ``content``; readers see the old file or the new one."""
    with atomic_writer(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_writer(path: Path) -> Iterator[IO[Any]]:
    """A binary file that takes the name ``path`` when the block ends well, and vanishes when it does not."""
    with atomic_path(path) as partial, partial.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path beside ``path`` for a tool that writes a file itself; the file takes the name when the block ends well.

    Several processes may write the same path: each has a temporary file of its own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """An empty folder that takes the name ``path`` when the block ends well, in place of what stood there, and
    vanishes when it does not. What a killed process left is removed by the next one."""
    with new_folder(path.parent, path.name) as partial:
        yield partial
        take_name(partial, path)


@contextmanager
def new_folder(parent: Path, name: str = "new") -> Iterator[Path]:
    """An empty folder in ``parent``, removed at the end unless it took another name."""
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(f".{escape(name)}.*.{MACHINE}.*.partial"):
        if not _is_alive(left.name.split(".")[-2]):
            shutil.rmtree(left, ignore_errors=True)
    partial = parent / f".{name}.{secrets.token_hex(4)}.{MACHINE}.{os.getpid()}.partial"
    partial.mkdir()
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def take_name(partial: Path, path: Path) -> None:
    """Renames a folder over whatever has the name now."""
    shutil.rmtree(path, ignore_errors=True)
    partial.rename(path)


def copy_folder(source: Path, target: Path, without: Sequence[str] = ()) -> None:
    """The files of one folder, but those whose "/name" ends as one of ``without``; each appears whole."""
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(path for path in source.iterdir() if path.is_file()):
        if not f"/{file.name}".endswith(tuple(without)):
            with atomic_path(target / file.name) as partial:
                shutil.copyfile(file, partial)


def is_file(text: str) -> bool:
    """Whether ``text`` is the path of a file; what cannot be a path (too long, NUL) is not."""
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def read_text(path: Path) -> str:
    """Raises InvalidConfig for a file that is absent, not readable or not text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InvalidConfig(f"{shown(str(path))} is not a text file (UTF-8)") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidConfig(f"{shown(str(path))} cannot be read: {reason}") from None


def shown(text: str) -> str:
    """As a message shows what was given for a path."""
    short = text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
    return short if short.isprintable() else repr(short)


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True


def file_digest(path: Path) -> str:
    """sha256 of a file's content, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
