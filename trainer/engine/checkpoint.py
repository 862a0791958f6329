"""Distributed checkpoints of model and optimizer: whole or not there, the last two kept, readable by any number of
processes."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load as load_distributed
from torch.distributed.checkpoint.state_dict_saver import save as save_distributed
from torch.optim import Optimizer

from foundation.errors import HilnasError
from trainer.engine.processes import Processes

log = structlog.get_logger()
KEPT = 2


class CheckpointBroken(HilnasError):
    code = "checkpoint_broken"


def save(folder: Path, step: int, model: nn.Module, optimizer: Optimizer, processes: Processes) -> None:
    """``folder/step-N`` appears when all of it is written. All processes call this."""
    partial = folder / f"step-{step:08d}.partial"
    if processes.first:
        shutil.rmtree(partial, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
    processes.wait()
    try:
        with _quietly():
            save_distributed(_state(model, optimizer, step), checkpoint_id=partial, no_dist=processes.world == 1)
    except CheckpointException as error:  # is no Exception, and wraps what each process met
        cause = next(iter(error.failures.values()))[0]
        raise cause if isinstance(cause, OSError) else OSError(f"{partial} cannot be written: {cause}") from error
    processes.wait()
    if processes.first:
        whole = folder / f"step-{step:08d}"
        shutil.rmtree(whole, ignore_errors=True)  # one that could not be read, made again
        partial.rename(whole)
        for old in steps(folder)[:-KEPT]:
            shutil.rmtree(folder / f"step-{old:08d}")
    processes.wait()


def load(folder: Path, model: nn.Module, optimizer: Optimizer, processes: Processes) -> int:
    """Loads the newest readable step, and returns it; 0 when there is none. All processes call this.

    Raises CheckpointBroken when there are some and none can be read.
    """
    found = steps(folder)
    for step in reversed(found):
        path, state = folder / f"step-{step:08d}", _state(model, optimizer, 0)
        try:
            with _quietly():
                load_distributed(state, checkpoint_id=path, no_dist=processes.world == 1)
        except (Exception, CheckpointException) as error:  # the latter is no Exception
            log.warning("checkpoint_skipped", path=str(path), error=type(error).__name__)
            continue
        weights, moments = state["model"], state["optimizer"]
        set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=moments, options=_options())
        return int(state["step"])
    if found:
        raise CheckpointBroken(f"none of the checkpoints in {folder} can be read; remove the folder to start anew")
    return 0


def steps(folder: Path) -> list[int]:
    """Of the whole checkpoints, oldest first."""
    names = [path.name for path in folder.glob("step-*") if path.suffix != ".partial"]
    return sorted(int(name.removeprefix("step-")) for name in names)


def _state(model: nn.Module, optimizer: Optimizer, step: int) -> dict[str, Any]:
    weights, moments = get_state_dict(model, optimizer, options=_options())
    return {"model": weights, "optimizer": moments, "step": step}


@contextmanager
def _quietly() -> Iterator[None]:
    """torch warns when there is no process group, even where none is wanted."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _options() -> StateDictOptions:
    return StateDictOptions(strict=True)
