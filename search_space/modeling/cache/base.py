"""The interface of states in the cache of a model.

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
    """One call over rows with cached prefixes of different lengths. Row b's new tokens follow ``gaps_B[b]`` columns of
    padding, over which its past is moved; states are kept after ``marks_BM`` columns."""

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
    """The state of one row over a span of tokens; only the state's class knows the layout of the tensor."""

    tensor: Tensor
    window: int = 0

    @property
    def num_bytes(self) -> int:
        return self.tensor.numel() * self.tensor.element_size()


class CacheState:
    """One state of one layer over B rows. ``reading`` is set during calls whose rows have different pasts; ``read`` are
    the states at the marks of such a call."""

    reading: Reading | None = None
    read: Any = None

    def num_elements(self) -> int:
        raise NotImplementedError

    def keep(self, row: int, start: int, stop: int, mark: int | None = None) -> Kept:
        """The state of one row over the tokens from ``start`` to ``stop``, both counted from the end (``start`` is
        further away). ``mark`` selects a state of the reading; without one it is the current state, and ``stop`` is
        0."""
        raise NotImplementedError

    @classmethod
    def restored(cls, paths: Sequence[Sequence[Kept]], like: Kept, num_tokens: int) -> Self:
        """B rows, each from a path of consecutive spans (empty: no tokens yet); ``num_tokens`` of the longest."""
        raise NotImplementedError

    @classmethod
    def merged(cls, states: Sequence[Self]) -> Self:
        """One state with the rows of all ``states``."""
        raise NotImplementedError


def join(past: Tensor, current: Tensor, dim: int) -> Tensor:
    return torch.cat((past, current), dim)
