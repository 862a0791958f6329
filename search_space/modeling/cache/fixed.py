"""States of a fixed size in torch: a convolution's tail, a recurrence's matrix. They are available only at the end of a
span, where they were kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from search_space.modeling.cache.base import CacheState, Kept, join


class FixedState(CacheState):
    """``value`` is [B, ...] or None before the first call; ``read`` [B, M, ...] the values at a reading's marks."""

    read: Tensor | None = None

    def __init__(self) -> None:
        self.value: Tensor | None = None

    def num_elements(self) -> int:
        return 0 if self.value is None else self.value.numel()

    def keep(self, row: int, start: int, stop: int, mark: int | None = None) -> Kept:
        value_B = self.value if mark is None or self.read is None else self.read[:, mark]
        assert value_B is not None, "a state is kept after it was read"
        return Kept(value_B[row].clone())

    @classmethod
    def restored(cls, paths: Sequence[Sequence[Kept]], like: Kept, num_tokens: int) -> Self:
        state = cls()
        empty = torch.zeros_like(like.tensor)
        state.value = torch.stack([path[-1].tensor if path else empty for path in paths])
        return state

    @classmethod
    def merged(cls, states: Sequence[Self]) -> Self:
        merged = cls()
        merged.value = torch.cat([state.value for state in states])  # type: ignore[misc]
        return merged


class ConvState(FixedState):
    """The last ``taps`` gated inputs of one layer, [B, taps, D]."""

    def extend(self, gated_BTD: Tensor, taps: int) -> Tensor:
        """Prefixes the stored tail (zeros at the start) and stores the new one."""
        if self.value is None:
            self.value = gated_BTD.new_zeros(gated_BTD.shape[0], taps, gated_BTD.shape[2])
        joined = (self.reading.join if self.reading is not None else join)(self.value, gated_BTD, 1)
        if self.reading is not None:
            rows = torch.arange(joined.shape[0], device=joined.device)[:, None, None]
            self.read = joined[rows, self.reading.marks_BM[:, :, None] + torch.arange(taps, device=joined.device)]
        self.value = joined[:, joined.shape[1] - taps :]
        return joined


class MatrixState(FixedState):
    """One matrix per head, [B, H, K, V]."""

    def before(self, like_BHKV: Tensor) -> Tensor:
        """The matrix that the current call starts from; zeros of the shape of ``like_BHKV`` at the start."""
        return torch.zeros_like(like_BHKV) if self.value is None else self.value

    def store(self, after_BTHKV: Tensor) -> None:
        """Takes the matrices after each token of the call; padding must not change them. Keeps only the last one, and
        those at the marks of a reading."""
        if self.reading is not None:
            every = torch.cat((self.before(after_BTHKV[:, 0])[:, None], after_BTHKV), 1)
            rows = torch.arange(every.shape[0], device=every.device)[:, None]
            self.read = every[rows, self.reading.marks_BM]
        self.value = after_BTHKV[:, -1]
