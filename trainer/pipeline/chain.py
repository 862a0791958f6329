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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from foundation.errors import HilnasError, InvalidConfig
from foundation.files import write_atomically
from trainer.pipeline.records import Records
from trainer.pipeline.stage import Progress, Recipe, Stage, StageContext, StageFailed

log = structlog.get_logger()
DONE, CURVE, PROGRESS, RECIPE = "done.json", "curve.jsonl", "progress.jsonl", "recipe.json"
LEAST_FREE_BYTES = 2**16  # nothing can be written in less


def run_recipe(
    recipe: Recipe, root: Path, run: str, commit: str | None = None, tell: Callable[[str], None] = lambda _: None,
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
            progress = _teller(records, stage, index, len(recipe.stages), tell)
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
                stage.check(folder)
                return done
            except HilnasError as error:
                log.warning("stage_repaired", stage=stage.name, reason=str(error))
                (folder / DONE).unlink()
        start = time.monotonic()
        context = StageContext(folder, inputs, progress, Records(folder / CURVE), launcher)
        with _explained(stage, folder):
            metrics = stage.run(context)
            record = {**stage.resolved(), "metrics": metrics, "seconds": round(time.monotonic() - start, 3)}
            write_atomically(folder / DONE, json.dumps(record, indent=1))
    progress(1.0, "done")
    return record


def finished(folder: Path) -> dict[str, Any] | None:
    path = folder / DONE
    return dict(json.loads(path.read_text())) if path.exists() else None


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
def _explained(stage: Stage, folder: Path) -> Iterator[None]:
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
        raise


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
    return shutil.disk_usage(there).free < LEAST_FREE_BYTES


def _teller(records: Records, stage: Stage, index: int, count: int, tell: Callable[[str], None]) -> Progress:
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
        tell(f"{stage.name}: {message}" + (f", {eta_s} s left" if eta_s else ""))

    return progress
