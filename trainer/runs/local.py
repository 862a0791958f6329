"""Runs on this machine: start one in the foreground, see how far it is, stop it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainer.pipeline.chain import OnEvent, run_recipe
from trainer.pipeline.run_folder import PID, process_of, run_folder
from trainer.pipeline.stage import Recipe


class Stopped(BaseException):
    """SIGTERM: everything unwinds, what is saved stays."""


def run_here(
    recipe: Recipe, root: Path, run: str, on_event: OnEvent, launcher: str = "torchrun"
) -> dict[str, dict[str, Any]]:
    """Stage name -> its record. ``hilnas train stop`` ends it between two steps."""
    with _stoppable(root / "runs" / run):
        return run_recipe(recipe, root, run, _commit(), on_event, launcher)


def stop(root: Path, run: str) -> bool:
    """Whether there was something to stop."""
    pid = process_of(run_folder(root, run))
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
    return pid is not None


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


def _commit() -> str | None:
    with contextlib.suppress(OSError):
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True,
            errors="replace", check=False,
        )
        return done.stdout.strip() or None
    return None
