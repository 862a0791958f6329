"""DARE before task arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from trainer.merging.methods.base import Noise, TaskVectorMerge, check_density
from trainer.merging.task_vectors import drop


@dataclass(frozen=True, kw_only=True)
class DareLinear(TaskVectorMerge):
    """tau_i -> m_i tau_i / (1 - p), m_i ~ Bernoulli(1 - p), then their weighted sum (Language models are super Mario,
    arXiv 2311.03099, equations 1-3). ``density`` is 1 - p; its default is ours. ``rescale=False`` leaves the division
    out (the paper's ablation)."""

    title: ClassVar[str] = "drop at random, rescale, sum (DARE)"
    density: float = 0.5
    rescale: bool = True

    def check(self, num_models: int) -> None:
        super().check(num_models)
        check_density(self.density)

    def sparsify(self, delta: Tensor, index: int, noise: Noise) -> Tensor:
        return drop(delta, self.density, noise(index), self.rescale)
