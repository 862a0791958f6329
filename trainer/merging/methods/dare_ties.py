"""DARE before a sign election."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trainer.merging.methods.dare_linear import DareLinear
from trainer.merging.methods.ties import ElectedMerge


@dataclass(frozen=True, kw_only=True)
class DareTies(DareLinear, ElectedMerge):
    """Dropped and rescaled as DARE (arXiv 2311.03099, equations 1-3) in place of trimming, then elected and averaged as
    TIES (arXiv 2306.01708, section 3.2)."""

    title: ClassVar[str] = "drop at random, rescale, elect signs (DARE + TIES)"
