"""What a run's folder says: its recipe, how far each stage is, its curves, the process that works on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from foundation.errors import InvalidConfig
from trainer.pipeline.chain import CURVE, PROGRESS, RECIPE, finished
from trainer.pipeline.records import Records

PID = "pid"


def state_of(root: Path, run: str) -> dict[str, Any]:
    """Per stage what ``done.json`` says, or the last progress line; and whether a process works on it."""
    folder = run_folder(root, run)
    recipe = described(folder)
    lines = Records(folder / PROGRESS).read()
    stages = {}
    for name, folder_name in recipe["folders"].items():
        done = finished(root / "stages" / folder_name)
        last: dict[str, Any] = next((line for line in reversed(lines) if line.get("stage") == name), {})
        stages[name] = {"state": "done", **done} if done else {"state": "open", **last}
    return {"run": run, "recipe": recipe["recipe"], "running": process_of(folder) is not None, "stages": stages}


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
    recipe = described(run_folder(root, run))
    rows = ((name, Records(root / "stages" / folder / CURVE).read()) for name, folder in recipe["folders"].items())
    return [{"stage": name, **row} for name, lines in rows for row in lines]


def known(root: Path, run: str) -> bool:
    return (root / "runs" / run / RECIPE).exists()


def process_of(folder: Path) -> int | None:
    """The run's process, if it is still that: process numbers come again."""
    try:
        pid = int((folder / PID).read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if b"train" in words else None


def run_folder(root: Path, run: str) -> Path:
    if not known(root, run):
        there = sorted(path.name for path in (root / "runs").glob("*")) or ["none yet"]
        raise InvalidConfig(f"no run {run!r} under {root}; there: {', '.join(there)}")
    return root / "runs" / run
