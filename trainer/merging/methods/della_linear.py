"""DELLA's MagPrune before task arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from foundation.errors import InvalidConfig
from trainer.merging.methods.base import Noise, TaskVectorMerge, check_density
from trainer.merging.task_vectors import drop, keep_probability


@dataclass(frozen=True, kw_only=True)
class DellaLinear(TaskVectorMerge):
    """tau -> m tau / (1 - p_i), m ~ Bernoulli(1 - p_i), smaller magnitudes dropped more (``keep_probability``), then
    their weighted sum (DELLA-Merging, arXiv 2406.11617, section 3). Defaults of ``density`` = 1 - p and ``epsilon`` are
    ours.

    The division is per element and by its own probability: dividing by one factor per tensor would raise large elements
    above their mean and lower small ones below it.
    """

    title: ClassVar[str] = "drop by magnitude, sum (DELLA)"
    density: float = 0.5
    epsilon: float = 0.2
    rescale: bool = True

    def check(self, num_models: int) -> None:
        super().check(num_models)
        check_density(self.density)
        half = self.epsilon / 2
        if not (half >= 0 and self.density - half > 0 and self.density + half <= 1):
            raise InvalidConfig(
                f"density {self.density} with epsilon {self.epsilon} keeps elements with probabilities from"
                f" {self.density - half:g} to {self.density + half:g}; they must lie in (0, 1]"
            )

    def sparsify(self, delta: Tensor, index: int, noise: Noise) -> Tensor:
        return drop(delta, keep_probability(delta, self.density, self.epsilon), noise(index), self.rescale)
