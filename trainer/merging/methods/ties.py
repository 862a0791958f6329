"""TIES: trim, elect signs, average those that agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from foundation.errors import InvalidConfig
from trainer.merging.methods.base import Noise, TaskVectorMerge, check_density
from trainer.merging.task_vectors import elected_mean, trim


@dataclass(frozen=True, kw_only=True)
class ElectedMerge(TaskVectorMerge):
    """Combines by sign election (``elected_mean``) instead of a sum."""

    weighted_election: bool = False

    def check(self, num_models: int) -> None:
        super().check(num_models)
        if any(weight <= 0 for weight in self.weights):
            raise InvalidConfig(f"weights {', '.join(map(str, self.weights))}: a sign election needs positive ones")

    def combine(self, deltas: Tensor, weights: Tensor) -> Tensor:
        return elected_mean(deltas, weights, self.weighted_election)


@dataclass(frozen=True, kw_only=True)
class Ties(ElectedMerge):
    """theta = theta_0 + lambda elected_mean(trim(tau_i)) (TIES-Merging, arXiv 2306.01708, algorithm 1). Trimming is per
    tensor, as in the LFM2 report; the paper's own top 20 % is the default ``density``."""

    title: ClassVar[str] = "trim, elect signs, average (TIES)"
    density: float = 0.2

    def check(self, num_models: int) -> None:
        super().check(num_models)
        check_density(self.density)

    def sparsify(self, delta: Tensor, index: int, noise: Noise) -> Tensor:
        return trim(delta, self.density)
