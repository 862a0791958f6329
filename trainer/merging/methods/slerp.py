"""Spherical interpolation between two models, one rotation per tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from foundation.errors import InvalidConfig
from trainer.merging.methods.base import Merge, Noise

# past this cosine the sines cancel: a straight line is the better answer
PARALLEL = 0.9995


@dataclass(frozen=True, kw_only=True)
class Slerp(Merge):
    """theta = (sin((1 - t) w) a + sin(t w) b) / sin w, w the angle between a and b as vectors (Shoemake 1985,
    "Animating rotation with quaternion curves", section 3.3). ``t`` = 0 is the first model, 1 the second.

    Nearly parallel, opposite or zero tensors have no plane to rotate in: they are interpolated on a straight line.
    """

    title: ClassVar[str] = "rotation from one model to another"
    needs_base: ClassVar[bool] = False
    t: float = 0.5

    def check(self, num_models: int) -> None:
        if num_models != 2:
            raise InvalidConfig(f"slerp takes two models, got {num_models}; linear takes any number")
        if not 0 <= self.t <= 1:
            raise InvalidConfig(f"t {self.t} is not in [0, 1], from the first model to the second")

    def merge(self, base: Tensor | None, models: Sequence[Tensor], noise: Noise) -> Tensor:
        first, second = models
        of_first, of_second = self.coefficients(_cosine(first, second))
        return of_first * first + of_second * second

    def coefficients(self, cosine: float) -> tuple[float, float]:
        if not abs(cosine) <= PARALLEL:  # also where a zero tensor made it a NaN
            return 1 - self.t, self.t
        angle = math.acos(cosine)
        return math.sin((1 - self.t) * angle) / math.sin(angle), math.sin(self.t * angle) / math.sin(angle)


def _cosine(first: Tensor, second: Tensor) -> float:
    """NaN when either is zero. Norms divide before the product: squares of large weights would overflow."""
    a, b = (tensor.flatten() / torch.linalg.vector_norm(tensor) for tensor in (first, second))
    return float(torch.dot(a.double(), b.double()))
