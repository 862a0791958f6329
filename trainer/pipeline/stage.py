"""What a stage is: a frozen config that turns the folders of earlier stages into one folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from foundation.errors import HilnasError
from trainer.pipeline.records import Records

Progress = Callable[[float, str], None]


class StageFailed(HilnasError):
    """A stage that stopped, with what to do about it; what it had saved stays and the next start goes on from there."""

    code = "stage_failed"

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(f"stage {stage} stopped: {reason}; the same command goes on from what is saved")
        self.stage = stage


@dataclass(frozen=True)
class StageContext:
    """What a running stage may touch: its own folder, those of its inputs (by stage name), its records. ``launcher``
    starts the processes of a stage that wants several; it belongs to the run, not to what a stage is."""

    folder: Path
    inputs: dict[str, Path]
    progress: Progress
    curve: Records
    launcher: str = "torchrun"

    @property
    def cache(self) -> Path:
        """What all runs share and any may fetch again: downloads, converted teachers."""
        return self.folder.parents[1] / "cache"


@dataclass(frozen=True)
class Stage:
    """Subclasses are frozen dataclasses: every field changes the result and so the digest, but for ``label``.

    ``version`` grows when code changes what equal fields give. A chain may hold a kind of stage several times, each
    with a ``label`` of its own.
    """

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    scratch: ClassVar[tuple[str, ...]] = ()  # files and folders that a finished stage can do without
    label: str = field(default="", kw_only=True)

    @property
    def name(self) -> str:
        """Unique in a chain."""
        return self.label or self.kind

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of earlier stages of the chain, in an order that means something."""
        return ()

    def run(self, context: StageContext) -> dict[str, Any]:
        """Fills the folder and returns metrics. Called again after any kind of end: must go on from what is there."""
        raise NotImplementedError

    def check(self, folder: Path) -> None:
        """Raises HilnasError when a finished folder is not what was written; it is then run again."""

    def resolved(self) -> dict[str, Any]:
        """Without its inputs' names: what they hold is in the digest."""
        fields = {key: value for key, value in asdict(self).items() if key != "label"}
        return {"stage": self.kind, "version": self.version, **json.loads(json.dumps(fields))}


@dataclass(frozen=True)
class Recipe:
    """Stages in order; every input of a stage stands before it."""

    name: str
    stages: tuple[Stage, ...]
    notes: tuple[str, ...] = field(default=())

    def digests(self) -> dict[str, str]:
        """Stage name -> sha256 of its resolved config and of the digests of its inputs."""
        known: dict[str, str] = {}
        for stage in self.stages:
            content = {"config": stage.resolved(), "inputs": [known[name] for name in stage.inputs]}
            known[stage.name] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return known

    def resolved(self) -> dict[str, Any]:
        return {"recipe": self.name, "stages": [stage.resolved() for stage in self.stages], "notes": list(self.notes)}
