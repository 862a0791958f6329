"""What a run wrote down about itself: recipe, commit, and the stages that are done."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.errors import InvalidConfig
from trainer.engine.model_dir import MODEL
from trainer.pipeline.chain import RECIPE, finished
from trainer.pipeline.outputs import check_files
from trainer.pipeline.run_folder import described, state_of


@dataclass(frozen=True)
class StageRecord:
    """``settings`` are the stage's fields as resolved, ``metrics`` what it returned."""

    name: str
    folder: Path
    settings: dict[str, Any]
    metrics: dict[str, Any]
    seconds: float

    @property
    def model(self) -> Path:
        return self.folder / MODEL

    @property
    def has_model(self) -> bool:
        return (self.model / "model.safetensors").exists()


@dataclass(frozen=True)
class RunRecord:
    """``stages`` are the finished ones in the order of the chain."""

    run: str
    recipe: str
    commit: str | None
    notes: tuple[str, ...]
    stages: tuple[StageRecord, ...]

    def stage(self, name: str | None) -> StageRecord:
        """The finished stage of that name with a model, the last such without a name; else one sentence."""
        there = [stage.name for stage in self.stages if stage.has_model]
        if not there:
            raise InvalidConfig(f"no stage of run {self.run!r} has left a model yet; `hilnas train status {self.run}`")
        if name is not None and name not in there:
            what = "has left no model" if name in [stage.name for stage in self.stages] else "is not one that is done"
            raise InvalidConfig(f"stage {name!r} of run {self.run!r} {what}; with a model: {', '.join(there)}")
        found = next(stage for stage in self.stages if stage.name == (name or there[-1]))
        check_files(found.folder, finished(found.folder) or {})
        return found


def run_record(root: Path, run: str) -> RunRecord:
    """Raises InvalidConfig with the known runs."""
    state_of(root, run)  # answers an unknown name
    recipe = described(root / "runs" / run)
    folders = {name: root / "stages" / folder for name, folder in recipe["folders"].items()}
    stages = tuple(_stage(name, folder, done) for name, folder in folders.items() if (done := finished(folder)))
    return RunRecord(run, recipe["recipe"], recipe.get("commit"), tuple(recipe.get("notes", ())), stages)


def run_of(stage_folder: Path) -> RunRecord | None:
    """The latest run that has this stage's folder in its chain."""
    root = stage_folder.parents[1]
    recipes = sorted((root / "runs").glob(f"*/{RECIPE}"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in recipes:
        with contextlib.suppress(InvalidConfig):  # of another run, cut
            if stage_folder.name in described(path.parent)["folders"].values():
                return run_record(root, path.parent.name)
    return None


def _stage(name: str, folder: Path, done: dict[str, Any]) -> StageRecord:
    settings = {key: value for key, value in done.items() if key not in ("metrics", "seconds", "files")}
    return StageRecord(name, folder, settings, done["metrics"], done["seconds"])
