"""Keys and values in torch. They can be cut anywhere, so a span keeps only its own rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from search_space.modeling.cache.base import CacheState, Kept, join


class KvState(CacheState):
    """Keys and values of one layer, [B, H, S, N]; a window keeps the last ``window - 1`` rows between calls."""

    read: tuple[Tensor, Tensor] | None = None  # before the window is applied

    def __init__(self, window: int = 0) -> None:
        self.window = window
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Returns all keys and values that the current tokens may see, and stores what later ones will need."""
        if self.keys is not None and self.values is not None:
            joined = self.reading.join if self.reading is not None else join
            keys, values = joined(self.keys, keys, 2), joined(self.values, values, 2)
        if self.reading is not None:
            self.read = keys, values
        kept = max(0, keys.shape[2] - (self.window - 1)) if self.window else 0
        self.keys, self.values = keys[:, :, kept:], values[:, :, kept:]
        return keys, values

    def num_elements(self) -> int:
        return 0 if self.keys is None else self.keys.numel() + self.values.numel()  # type: ignore[union-attr]

    def keep(self, row: int, start: int, stop: int, mark: int | None = None) -> Kept:
        """[2, H, S, N]. With a window at most the last ``window - 1`` rows: later tokens cannot see earlier ones."""
        first = min(start, stop + self.window - 1) if self.window else start
        both = (self.keys, self.values) if mark is None or self.read is None else self.read
        width = both[0].shape[2]  # type: ignore[union-attr]
        rows = torch.stack([tensor[row, :, width - first : width - stop] for tensor in both])  # type: ignore[index]
        return Kept(rows, self.window)

    @classmethod
    def restored(cls, paths: Sequence[Sequence[Kept]], like: Kept, num_tokens: int) -> Self:
        state = cls(like.window)
        width = min(num_tokens, like.window - 1) if like.window else num_tokens
        state.keys, state.values = _stacked_rows([[kept.tensor for kept in path] for path in paths], like.tensor, width)
        return state

    @classmethod
    def merged(cls, states: Sequence[Self]) -> Self:
        """Left-padded to the widest."""
        merged = cls(states[0].window)
        merged.keys = _left_padded([state.keys for state in states])  # type: ignore[misc]
        merged.values = _left_padded([state.values for state in states])  # type: ignore[misc]
        return merged


def _stacked_rows(paths: Sequence[Sequence[Tensor]], like: Tensor, width: int) -> Tensor:
    """[2, B, H, width, N], filled from the right."""
    stacked = like.new_zeros(2, len(paths), like.shape[1], width, like.shape[3])
    for row, spans in enumerate(paths):
        free = width
        for span in reversed(spans):
            taken = min(free, span.shape[2])
            if taken:
                stacked[:, row, :, free - taken : free] = span[:, :, span.shape[2] - taken :]
            free -= taken
    return stacked


def _left_padded(tensors: Sequence[Tensor]) -> Tensor:
    width = max(tensor.shape[2] for tensor in tensors)
    return torch.cat([torch.nn.functional.pad(t, (0, 0, width - t.shape[2], 0)) for t in tensors])
