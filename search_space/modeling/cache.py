"""Decode-time state of a whole model: one entry per layer, KV or convolution. Serves conv-only nets, which the stock
caches of transformers cannot (they ask an attention layer for the sequence length).

Shapes: B rows, H heads, S keys, N head width, D model width, M marks of a reading.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

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


class KvState:
    """Keys and values of one layer, [B, H, S, N]; a window keeps the last ``window - 1`` rows between calls."""

    def __init__(self, window: int = 0) -> None:
        self.window = window
        self.keys: Tensor | None = None
        self.values: Tensor | None = None
        self.reading: Reading | None = None
        self.read: tuple[Tensor, Tensor] | None = None  # of a reading: before the window's cut

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Returns all keys and values that the current tokens may see, and stores what later ones will need."""
        if self.keys is not None and self.values is not None:
            join = self.reading.join if self.reading is not None else _join
            keys, values = join(self.keys, keys, 2), join(self.values, values, 2)
        if self.reading is not None:
            self.read = keys, values
        kept = max(0, keys.shape[2] - (self.window - 1)) if self.window else 0
        self.keys, self.values = keys[:, :, kept:], values[:, :, kept:]
        return keys, values

    def num_elements(self) -> int:
        return 0 if self.keys is None else self.keys.numel() + self.values.numel()  # type: ignore[union-attr]


class ConvState:
    """The last ``taps`` gated inputs of one layer, [B, taps, D]."""

    def __init__(self) -> None:
        self.tail: Tensor | None = None
        self.reading: Reading | None = None
        self.read: Tensor | None = None  # of a reading: the tail at each mark, [B, M, taps, D]

    def extend(self, gated_BTD: Tensor, taps: int) -> Tensor:
        """Prefixes the stored tail (zeros at the start) and stores the new one."""
        if self.tail is None:
            self.tail = gated_BTD.new_zeros(gated_BTD.shape[0], taps, gated_BTD.shape[2])
        joined = (self.reading.join if self.reading is not None else _join)(self.tail, gated_BTD, 1)
        if self.reading is not None:
            rows = torch.arange(joined.shape[0], device=joined.device)[:, None, None]
            self.read = joined[rows, self.reading.marks_BM[:, :, None] + torch.arange(taps, device=joined.device)]
        self.tail = joined[:, joined.shape[1] - taps :]
        return joined

    def num_elements(self) -> int:
        return 0 if self.tail is None else self.tail.numel()


def _join(past: Tensor, current: Tensor, dim: int) -> Tensor:
    return torch.cat((past, current), dim)


class HilnasCache:
    """What ``past_key_values`` holds. ``get_seq_length`` counts the tokens read, whatever the mixers are. ``reading``
    holds for the calls until it is taken away."""

    is_compileable = False

    def __init__(self) -> None:
        self.states: dict[int, Any] = {}
        self.num_tokens = 0
        self.reading: Reading | None = None

    def state(self, layer: int, make: Any) -> Any:
        state = self.states.setdefault(layer, make())
        state.reading = self.reading
        return state

    def end_reading(self) -> None:
        self.reading = None
        for state in self.states.values():
            state.reading = state.read = None

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.num_tokens

    def advance(self, num_tokens: int) -> None:
        self.num_tokens += num_tokens

    def snapshot(self) -> HilnasCache:
        """A copy that later calls on this cache leave alone (prefix reuse)."""
        return copy.deepcopy(self)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        for state in self.states.values():
            for name, value in vars(state).items():
                if isinstance(value, Tensor):
                    setattr(state, name, value.index_select(0, beam_idx))

    def num_elements(self) -> int:
        return sum(state.num_elements() for state in self.states.values())
