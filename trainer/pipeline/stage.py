"""What a stage is: a frozen config that turns the folders of earlier stages into one folder."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from foundation.errors import HilnasError, InvalidConfig
from foundation.registry import Registry
from trainer.pipeline.brief import Brief
from trainer.pipeline.costing import Cost, Costing
from trainer.pipeline.fields import in_digest, is_digested, source_kind
from trainer.pipeline.records import Records

Progress = Callable[[float, str], None]
Dir = TypeVar("Dir", bound="StageDir")
S = TypeVar("S", bound="Stage")


class StageFailed(HilnasError):
    """A stage that stopped, with what to do about it; what it had saved stays and the next start goes on from there."""

    code = "stage_failed"

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(f"stage {stage} stopped: {reason}; the same command goes on from what is saved")
        self.stage = stage


@dataclass(frozen=True)
class StageDir:
    """The folder of a stage, read by what kind of thing the stage leaves. Subclasses know its files; the names of
    files stand in them alone."""

    folder: Path
    what: ClassVar[str] = "a finished stage"
    required: ClassVar[tuple[str, ...]] = ()  # relative paths

    def check(self) -> None:
        """Raises HilnasError for a folder that is not what was written; the stage is then run again."""
        for name in self.required:
            if not (self.folder / name).exists():
                raise HilnasError(f"{self.folder / name} is gone")


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

    def read(self, kind: type[Dir], name: str) -> Dir:
        """The folder of the input ``name``, as what it holds."""
        return kind(self.inputs[name])


@dataclass(frozen=True)
class Stage(ABC):
    """Subclasses are frozen dataclasses. Every field changes the result and so the digest, but where its metadata
    says otherwise; fields with ``source`` metadata name the stages that it reads.

    ``version`` grows when code changes what equal fields give. A chain may hold a kind of stage several times, each
    with a ``label`` of its own.
    """

    kind: ClassVar[str]
    title: ClassVar[str] = ""  # one line, for lists
    output: ClassVar[type[StageDir]] = StageDir
    version: ClassVar[int] = 1
    scratch: ClassVar[tuple[str, ...]] = ()  # files and folders that a finished stage can do without
    label: str = field(default="", kw_only=True, metadata=in_digest("never"))

    @property
    def name(self) -> str:
        """Unique in a chain."""
        return self.label or self.kind

    @property
    def reads(self) -> list[tuple[str, type[StageDir]]]:
        """Names of earlier stages, each with what this one reads there, in the order of the fields."""
        found: list[tuple[str, type[StageDir]]] = []
        for one in fields(self):
            if (kind := source_kind(one)) is not None:
                value = getattr(self, one.name)
                names = value if isinstance(value, tuple) else (value,) if value else ()
                found += [(name, kind) for name in names]
        return found

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the earlier stages that it reads, in an order that means something."""
        return tuple(name for name, _ in self.reads)

    @abstractmethod
    def run(self, context: StageContext) -> dict[str, Any]:
        """Fills the folder and returns metrics. Called again after any kind of end: must go on from what is there."""

    @abstractmethod
    def cost(self, costing: Costing) -> Cost | None:
        """What it takes, for `hilnas train plan`; None for minutes that are not counted."""

    @abstractmethod
    def shortened(self: S, brief: Brief) -> S:
        """The same stage for a rehearsal: one step, a few examples, short rows."""

    def seeded(self: S, seed: int) -> S:
        """The same stage with another seed of weights and of the order of rows, where it has one."""
        return self

    def check(self, folder: Path) -> None:
        """Raises HilnasError when a finished folder is not what was written; it is then run again."""
        self.output(folder).check()

    def resolved(self) -> dict[str, Any]:
        """Kind, version and every field that is part of the digest."""
        values = asdict(self)
        kept = {one.name: values[one.name] for one in fields(self) if is_digested(one, getattr(self, one.name))}
        return {"stage": self.kind, "version": self.version, **json.loads(json.dumps(kept))}


STAGES: Registry[type[Stage]] = Registry("training stage")


@dataclass(frozen=True)
class Recipe:
    """Stages in order. Raises InvalidConfig for a name that two stages have, and for a stage that reads one which does
    not stand before it or leaves something else."""

    name: str
    stages: tuple[Stage, ...]
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        before: dict[str, Stage] = {}
        for stage in self.stages:
            for name, kind in stage.reads:
                _check_source(self.name, stage, before.get(name), name, kind)
            if stage.name in before:
                raise InvalidConfig(f"recipe {self.name} has two stages {stage.name!r}; give one of them a label")
            before[stage.name] = stage

    def digests(self) -> dict[str, str]:
        """Stage name -> sha256 of its resolved config and of the digests of its inputs."""
        known: dict[str, str] = {}
        for stage in self.stages:
            content = {"config": stage.resolved(), "inputs": [known[name] for name in stage.inputs]}
            known[stage.name] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return known

    def seeded(self, seed: int) -> Recipe:
        """The same chain with another seed of weights and of the order of rows."""
        return replace(self, stages=tuple(stage.seeded(seed) for stage in self.stages))

    def shortened(self, brief: Brief) -> Recipe:
        return replace(self, stages=tuple(stage.shortened(brief) for stage in self.stages))

    def resolved(self) -> dict[str, Any]:
        return {"recipe": self.name, "stages": [stage.resolved() for stage in self.stages], "notes": list(self.notes)}


def _check_source(recipe: str, stage: Stage, found: Stage | None, name: str, kind: type[StageDir]) -> None:
    if found is None:
        raise InvalidConfig(f"recipe {recipe}: stage {stage.name!r} reads {name!r}, which does not stand before it")
    if not issubclass(found.output, kind):
        raise InvalidConfig(
            f"recipe {recipe}: stage {stage.name!r} reads {kind.what} from {name!r}, which leaves {found.output.what}"
        )
