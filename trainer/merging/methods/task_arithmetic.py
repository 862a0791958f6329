"""Task arithmetic: task vectors added to the base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trainer.merging.methods.base import TaskVectorMerge


@dataclass(frozen=True, kw_only=True)
class TaskArithmetic(TaskVectorMerge):
    """theta = theta_0 + lambda sum_i w_i tau_i (Editing models with task arithmetic, arXiv 2212.04089, section 2)."""

    title: ClassVar[str] = "base plus a weighted sum of differences"
