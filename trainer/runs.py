"""Runs on this machine: start one in the foreground, see how far it is, stop it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from foundation.errors import InvalidConfig
from trainer.pipeline.chain import CURVE, PROGRESS, RECIPE, finished, run_recipe
from trainer.pipeline.records import Records
from trainer.pipeline.stage import Recipe

PID = "pid"


class Stopped(BaseException):
    """SIGTERM: everything unwinds, what is saved stays."""


def run_here(
    recipe: Recipe, root: Path, run: str, tell: Callable[[str], None], launcher: str = "torchrun"
) -> dict[str, dict[str, Any]]:
    """Stage name -> its record. ``hilnas train stop`` ends it between two steps."""
    with _stoppable(root / "runs" / run):
        return run_recipe(recipe, root, run, _commit(), tell, launcher)


def state_of(root: Path, run: str) -> dict[str, Any]:
    """Per stage what ``done.json`` says, or the last progress line; and whether a process works on it."""
    folder = _folder(root, run)
    recipe = described(folder)
    lines = Records(folder / PROGRESS).read()
    stages = {}
    for name, folder_name in recipe["folders"].items():
        done = finished(root / "stages" / folder_name)
        last: dict[str, Any] = next((line for line in reversed(lines) if line.get("stage") == name), {})
        stages[name] = {"state": "done", **done} if done else {"state": "open", **last}
    return {"run": run, "recipe": recipe["recipe"], "running": _process(folder) is not None, "stages": stages}


def described(folder: Path) -> dict[str, Any]:
    """The recipe that a run's folder keeps. Raises InvalidConfig where it was cut."""
    try:
        recipe = dict(json.loads((folder / RECIPE).read_text()))
        recipe["folders"].items()
        return recipe
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise InvalidConfig(
            f"{folder / RECIPE} cannot be read ({type(error).__name__}); start the run again to write it anew"
        ) from error


def curve_of(root: Path, run: str) -> list[dict[str, Any]]:
    """Curve lines of every stage that has one, oldest stage first."""
    recipe = described(_folder(root, run))
    rows = ((name, Records(root / "stages" / folder / CURVE).read()) for name, folder in recipe["folders"].items())
    return [{"stage": name, **row} for name, lines in rows for row in lines]


def stop(root: Path, run: str) -> bool:
    """Whether there was something to stop."""
    pid = _process(_folder(root, run))
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
    return pid is not None


def known(root: Path, run: str) -> bool:
    return (root / "runs" / run / RECIPE).exists()


@contextmanager
def _stoppable(folder: Path) -> Iterator[None]:
    def stopped(*_: object) -> None:
        raise Stopped

    folder.mkdir(parents=True, exist_ok=True)
    (folder / PID).write_text(str(os.getpid()))
    before = signal.signal(signal.SIGTERM, stopped)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        with contextlib.suppress(OSError):
            (folder / PID).unlink()


def _process(folder: Path) -> int | None:
    """The run's process, if it is still that: process numbers come again."""
    try:
        pid = int((folder / PID).read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if b"train" in words else None


def _folder(root: Path, run: str) -> Path:
    if not known(root, run):
        there = sorted(path.name for path in (root / "runs").glob("*")) or ["none yet"]
        raise InvalidConfig(f"no run {run!r} under {root}; there: {', '.join(there)}")
    return root / "runs" / run


def _commit() -> str | None:
    with contextlib.suppress(OSError):
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
        return done.stdout.strip() or None
    return None
