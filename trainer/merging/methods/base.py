"""What a merging method is: frozen parameters and one function over the same tensor of every model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from foundation.errors import InvalidConfig
from trainer.merging.task_vectors import weighted_sum

# index of a model -> uniform numbers in [0, 1), one per element of the tensor at hand
Noise = Callable[[int], Tensor]


@dataclass(frozen=True, kw_only=True)
class Merge(ABC):
    """``seed`` matters to methods that drop at random only; it is part of every record all the same."""

    needs_base: ClassVar[bool] = True
    seed: int = 0

    def check(self, num_models: int) -> None:
        """Raises InvalidConfig when the parameters do not fit that many models."""
        if num_models < 1:
            raise InvalidConfig("nothing to merge: give at least one model")

    @abstractmethod
    def merge(self, base: Tensor | None, models: Sequence[Tensor], noise: Noise) -> Tensor:
        """All tensors are float32 (or float64) and of one shape, and so is the result."""


@dataclass(frozen=True, kw_only=True)
class WeightedMerge(Merge):
    """``weights`` in the order of the models; without any, 1 each."""

    weights: tuple[float, ...] = ()

    def check(self, num_models: int) -> None:
        super().check(num_models)
        if self.weights and len(self.weights) != num_models:
            raise InvalidConfig(f"{len(self.weights)} weights for {num_models} models: give one per model or none")

    def weights_like(self, models: Sequence[Tensor]) -> Tensor:
        return torch.tensor(self.weights or (1.0,) * len(models), dtype=models[0].dtype)


@dataclass(frozen=True, kw_only=True)
class TaskVectorMerge(WeightedMerge):
    """base + scale * combine(sparsify(tau_1), ...) with task vectors tau_i = theta_i - base.

    ``scale`` is the lambda of the papers.
    """

    scale: float = 1.0

    def merge(self, base: Tensor | None, models: Sequence[Tensor], noise: Noise) -> Tensor:
        assert base is not None
        deltas = torch.stack([self.sparsify(model - base, i, noise) for i, model in enumerate(models)])
        return base + self.scale * self.combine(deltas, self.weights_like(models))

    def sparsify(self, delta: Tensor, index: int, noise: Noise) -> Tensor:
        return delta

    def combine(self, deltas: Tensor, weights: Tensor) -> Tensor:
        return weighted_sum(deltas, weights)


def check_density(density: float) -> None:
    if not 0 < density <= 1:
        raise InvalidConfig(f"density {density} is not in (0, 1]; it is the share of a task vector that is kept")
