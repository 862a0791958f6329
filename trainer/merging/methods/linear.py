"""Model soup: the weighted mean of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from foundation.errors import InvalidConfig
from trainer.merging.methods.base import Noise, WeightedMerge
from trainer.merging.task_vectors import weighted_sum


@dataclass(frozen=True, kw_only=True)
class Linear(WeightedMerge):
    """theta = sum_i w_i theta_i with sum_i w_i = 1 (Model soups, arXiv 2203.05482, section 2); weights are scaled to
    that sum."""

    title: ClassVar[str] = "weighted mean of the models (model soups)"
    needs_base: ClassVar[bool] = False

    def check(self, num_models: int) -> None:
        super().check(num_models)
        if self.weights and abs(sum(self.weights)) < 1e-8:
            raise InvalidConfig(f"weights {', '.join(map(str, self.weights))} sum to zero: a mean needs another sum")

    def merge(self, base: Tensor | None, models: Sequence[Tensor], noise: Noise) -> Tensor:
        weights = self.weights_like(models)
        return weighted_sum(torch.stack(list(models)), weights / weights.sum())
