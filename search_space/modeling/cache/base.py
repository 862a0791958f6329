"""What every kind of state does for the cache of a whole model.

Shapes: B rows, H heads, S keys, N head width, D model width, K and V key and value widths of a matrix, M marks of a
reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Reading:
    """One call over rows that differ in how much of them the cache holds already. Row b's new tokens stand behind
    ``gaps_B[b]`` columns of padding, over which its past is moved; states are kept after ``marks_BM`` columns."""

    gaps_B: Tensor
    marks_BM: Tensor

    def join(self, past: Tensor, current: Tensor, dim: int) -> Tensor:
        """Past and current along ``dim``, each row's past right before its first new token."""
        joined = torch.cat((past, current), dim)
        columns, gaps_B1 = torch.arange(joined.shape[dim], device=joined.device), self.gaps_B[:, None]
        moved = (columns - gaps_B1).clamp(min=0)
        source = torch.where(columns < past.shape[dim] + gaps_B1, moved, columns)
        shape = [source.shape[0] if axis == 0 else source.shape[1] if axis == dim else 1 for axis in range(joined.ndim)]
        return joined.gather(dim, source.view(shape).expand(joined.shape))


@dataclass(frozen=True)
class Kept:
    """What is kept of one row over a span of tokens: tensors of a form that only their state's class knows."""

    tensor: Tensor
    window: int = 0

    @property
    def num_bytes(self) -> int:
        return self.tensor.numel() * self.tensor.element_size()


class CacheState:
    """One state of one layer over B rows. ``reading`` holds during calls whose rows differ in their past; ``read`` is
    what such a call leaves at its marks."""

    reading: Reading | None = None
    read: Any = None

    def num_elements(self) -> int:
        raise NotImplementedError

    def keep(self, row: int, start: int, stop: int, mark: int | None = None) -> Kept:
        """One row's share in the tokens from ``start`` to ``stop``, both counted from the end (``start`` is further
        away). ``mark`` names the state of a reading; without one it is the state itself, and ``stop`` is 0."""
        raise NotImplementedError

    @classmethod
    def restored(cls, paths: Sequence[Sequence[Kept]], like: Kept, num_tokens: int) -> Self:
        """B rows, each from its path of consecutive spans (empty: nothing read yet); ``num_tokens`` of the longest."""
        raise NotImplementedError

    @classmethod
    def merged(cls, states: Sequence[Self]) -> Self:
        """The rows of several states in one."""
        raise NotImplementedError


def join(past: Tensor, current: Tensor, dim: int) -> Tensor:
    return torch.cat((past, current), dim)
