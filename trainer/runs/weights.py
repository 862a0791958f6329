"""The weights that a trial was judged with, where a recipe goes on from them."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from contracts.job import TrainJob
from foundation.errors import InvalidConfig
from foundation.files import atomic_folder
from trainer.recipes import RECIPES

START = "start"  # the option of a recipe that names them
Fetch = Callable[[str, Path], None]


def takes_weights(recipe: str) -> bool:
    return recipe in RECIPES and any(one.name == START for one in fields(RECIPES[recipe].defaults))


def with_weights(job: TrainJob, cache: Path, fetch: Fetch) -> TrainJob:
    """The job with the folder of its trial's weights, which ``fetch`` (digest, target) downloads once.

    Raises InvalidConfig for a trial that has none.
    """
    if not takes_weights(job.recipe) or job.options.get(START):
        return job
    if job.weights is None:
        raise InvalidConfig(no_weights(job.recipe))
    folder = cache / "weights" / job.weights
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        packed = folder.with_suffix(".tar")
        fetch(job.weights, packed)
        with atomic_folder(folder) as partial, tarfile.open(packed) as archive:
            archive.extractall(partial, filter="data")
        packed.unlink()
    return job.model_copy(update={"options": {**job.options, START: str(folder / "checkpoint")}})


def no_weights(recipe: str) -> str:
    return (
        f"recipe {recipe} goes on from the weights that a candidate was judged with, and this trial has none: only"
        " confirmed winners of studies with the estimator `inherited` have them"
    )
