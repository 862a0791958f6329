"""Runs a recipe: each stage once per digest, in ``root/stages/<name>-<digest>``; a run's folder only points there.

A stage is finished when ``done.json`` is there; until then whatever ended it, the next start calls it again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from safetensors import SafetensorError

from foundation.errors import HilnasError, InvalidConfig
from foundation.files import write_atomically
from trainer.pipeline.outputs import check_files, recorded, remove_broken
from trainer.pipeline.records import Records
from trainer.pipeline.stage import Progress, Recipe, Stage, StageContext, StageFailed

log = structlog.get_logger()
DONE, CURVE, PROGRESS, RECIPE = "done.json", "curve.jsonl", "progress.jsonl", "recipe.json"
ENDED = "done"  # the last message of a stage that ran
MIN_FREE_BYTES = 2**16  # nothing can be written in less
# what libraries raise when they read a file that is cut, or find a part of a folder gone
UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, SafetensorError)


@dataclass(frozen=True)
class StageEvent:
    """How far a stage of a run is; as text one line for people."""

    stage: str
    share: float
    message: str
    eta_s: int | None = None

    @property
    def done(self) -> bool:
        return self.message == ENDED

    def __str__(self) -> str:
        return f"{self.stage}: {self.message}" + (f", {self.eta_s} s left" if self.eta_s else "")


OnEvent = Callable[[StageEvent], None]


def run_recipe(
    recipe: Recipe, root: Path, run: str, commit: str | None = None, on_event: OnEvent = lambda _: None,
    launcher: str = "torchrun",
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Stage name -> what its ``done.json`` says. Raises StageFailed with one sentence."""
    folders = stage_folders(recipe, root)
    described = {**recipe.resolved(), "commit": commit, "folders": {k: v.name for k, v in folders.items()}}
    records = Records(root / "runs" / run / PROGRESS)
    results = {}
    with _writable(root):
        records.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(records.path.with_name(RECIPE), json.dumps(described, indent=1))
        for index, stage in enumerate(recipe.stages):
            progress = _progress_of(records, stage, index, len(recipe.stages), on_event)
            inputs = {name: folders[name] for name in stage.inputs}
            try:
                results[stage.name] = run_stage(stage, folders[stage.name], inputs, progress, launcher)
            except StageFailed as failure:
                with contextlib.suppress(OSError):  # the failure may be that there is no room
                    records.add(time=time.time(), stage=stage.name, event="stage_failed", message=str(failure))
                raise
        records.add(time=time.time(), event="run_finished", share=1.0)
    return results


def stage_folders(recipe: Recipe, root: Path) -> dict[str, Path]:
    return {name: root / "stages" / f"{name}-{digest[:16]}" for name, digest in recipe.digests().items()}


def run_stage(
    stage: Stage, folder: Path, inputs: dict[str, Path], progress: Progress = lambda *_: None,
    launcher: str = "torchrun",
) -> dict[str, Any]:  # fmt: skip
    """The finished stage's record; runs or goes on with what is not finished, or no longer what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if (done := finished(folder)) is not None:
            try:
                check_files(folder, done)
                stage.check(folder)
                return done
            except (HilnasError, *UNREADABLE) as error:
                log.warning("stage_repaired", stage=stage.name, reason=str(error))
                remove_broken(folder, done)
                (folder / DONE).unlink()
        start = time.monotonic()
        context = StageContext(folder, inputs, progress, Records(folder / CURVE), launcher)
        with _explained(stage, folder, inputs):
            metrics = stage.run(context)
            seconds = round(time.monotonic() - start, 3)
            record = {**stage.resolved(), "metrics": metrics, "seconds": seconds,
                      "files": recorded(folder, stage.scratch)}  # fmt: skip
            write_atomically(folder / DONE, json.dumps(record, indent=1))
    progress(1.0, ENDED)
    return record


def finished(folder: Path) -> dict[str, Any] | None:
    """The stage's record; None where there is none, or one that was cut: the stage then runs again."""
    try:
        record = json.loads((folder / DONE).read_text())
        return record if isinstance(record, dict) and {"metrics", "seconds"} <= record.keys() else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        log.warning("record_unreadable", path=str(folder / DONE), reason=str(error))
        return None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """The kernel drops the lock of a killed process."""
    handle = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise InvalidConfig(f"{folder} is being filled by another run; wait for it or stop it") from None
    finally:
        os.close(handle)


@contextmanager
def _explained(stage: Stage, folder: Path, inputs: dict[str, Path]) -> Iterator[None]:
    try:
        yield
    except StageFailed:
        raise
    except HilnasError as error:
        raise StageFailed(stage.name, str(error)) from error
    except Exception as error:  # of a full disk torch and safetensors make errors of their own
        if _full(error, folder):
            raise StageFailed(stage.name, f"the disk of {folder} is full") from error
        if isinstance(error, OSError):
            raise StageFailed(stage.name, str(error)) from error
        if isinstance(error, UNREADABLE) and (unknown := _without_record(inputs)):
            log.exception("stage_failed", stage=stage.name)
            raise StageFailed(
                stage.name, f"{type(error).__name__}: {error}; a file in {' or '.join(unknown)} may be damaged: remove"
                " that folder to have it made again"
            ) from error  # fmt: skip
        raise


def _without_record(inputs: dict[str, Path]) -> list[str]:
    """Inputs that were finished before files were recorded: nobody knows whether theirs are whole."""
    return [str(folder) for folder in inputs.values() if "files" not in (finished(folder) or {})]


@contextmanager
def _writable(root: Path) -> Iterator[None]:
    """What is written between stages."""
    try:
        yield
    except OSError as error:
        raise HilnasError(f"the disk of {root} is full; make room and start again" if _full(error, root) else str(error)
                          ) from error  # fmt: skip


def _full(error: Exception, folder: Path) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free < MIN_FREE_BYTES


def _progress_of(records: Records, stage: Stage, index: int, count: int, on_event: OnEvent) -> Progress:
    """Progress lines with the share of the whole chain and this stage's ETA, at most one a second."""
    start, last = time.time(), [0.0, -1.0]

    def progress(share: float, message: str) -> None:
        now = time.time()
        if now - last[0] < 1 and share < 1:
            return
        if last[1] < 0:
            last[1] = share  # a resumed stage does not start at 0: its pace counts from here
        last[0], gained = now, share - last[1]
        eta_s = round((1 - share) * (now - start) / gained) if gained > 0 else None
        records.add(
            time=now, stage=stage.name, share=round((index + share) / count, 4), stage_share=round(share, 4),
            eta_s=eta_s, message=message,
        )  # fmt: skip
        on_event(StageEvent(stage.name, share, message, eta_s))

    return progress
