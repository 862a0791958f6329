"""DELLA: MagPrune, then a sign election."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trainer.merging.methods.della_linear import DellaLinear
from trainer.merging.methods.ties import ElectedMerge


@dataclass(frozen=True, kw_only=True)
class Della(DellaLinear, ElectedMerge):
    """Drop, elect, fuse (DELLA-Merging, arXiv 2406.11617, section 3): the mean over those that agree with the elected
    sign."""

    title: ClassVar[str] = "drop by magnitude, elect signs (DELLA)"
