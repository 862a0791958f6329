"""What a finished stage left: recorded in ``done.json``, so that the next start sees what is gone, cut or changed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from foundation.errors import HilnasError
from foundation.files import file_digest

SMALL_BYTES = 2**16  # up to here a file's digest is recorded too
# of every stage: what only a stage that is not finished needs, and logs
SCRATCH = ("lock", "done.json", "curve.jsonl", "checkpoints", "job.json", "*.log", "error-*.json", "*.partial")


def recorded(folder: Path, scratch: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    """Relative path -> bytes, and sha256 of small files. ``scratch`` are further names at the top of the folder."""
    return {str(path.relative_to(folder)): _facts(path) for path in _files(folder, (*SCRATCH, *scratch))}


def broken(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of recorded files that are no longer what was written."""
    return [name for name, facts in files.items() if not _is_as_written(folder / name, facts)]


def check_files(folder: Path, done: Mapping[str, Any]) -> None:
    """Raises HilnasError that names the folder. A record of before files were recorded passes."""
    if names := broken(folder, done.get("files", {})):
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise HilnasError(
            f"{folder} is not complete: {names[0]}{more} is gone or not what was written; start the run again to make"
            " it anew"
        )


def remove_broken(folder: Path, done: Mapping[str, Any]) -> None:
    """So that a stage that keeps what it finds takes none of them for whole."""
    for name in broken(folder, done.get("files", {})):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _is_as_written(path: Path, facts: Mapping[str, Any]) -> bool:
    if not path.is_file() or path.stat().st_size != facts["bytes"]:
        return False
    return "sha256" not in facts or file_digest(path) == facts["sha256"]


def _facts(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    return {"bytes": size, "sha256": file_digest(path)} if size <= SMALL_BYTES else {"bytes": size}


def _files(folder: Path, scratch: tuple[str, ...]) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if not any(entry.match(pattern) for pattern in scratch):
            yield from [entry] if entry.is_file() else sorted(path for path in entry.rglob("*") if path.is_file())
