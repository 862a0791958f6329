"""Decode-time state of a whole model: one entry per layer, KV or convolution. Serves conv-only nets, which the stock
caches of transformers cannot (they ask an attention layer for the sequence length)."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor


class KvState:
    """Keys and values of one layer, [B, H, S, N]; a window keeps the last ``window - 1`` rows between calls."""

    def __init__(self, window: int = 0) -> None:
        self.window = window
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Returns all keys and values that the current tokens may see, and stores what later ones will need."""
        if self.keys is not None and self.values is not None:
            keys, values = torch.cat((self.keys, keys), 2), torch.cat((self.values, values), 2)
        kept = max(0, keys.shape[2] - (self.window - 1)) if self.window else 0
        self.keys, self.values = keys[:, :, kept:], values[:, :, kept:]
        return keys, values

    def num_elements(self) -> int:
        return 0 if self.keys is None else self.keys.numel() + self.values.numel()  # type: ignore[union-attr]


class ConvState:
    """The last ``taps`` gated inputs of one layer, [B, taps, D]."""

    def __init__(self) -> None:
        self.tail: Tensor | None = None

    def extend(self, gated_BTD: Tensor, taps: int) -> Tensor:
        """Prefixes the stored tail (zeros at the start) and stores the new one."""
        if self.tail is None:
            self.tail = gated_BTD.new_zeros(gated_BTD.shape[0], taps, gated_BTD.shape[2])
        joined = torch.cat((self.tail, gated_BTD), 1)
        self.tail = joined[:, joined.shape[1] - taps :]
        return joined

    def num_elements(self) -> int:
        return 0 if self.tail is None else self.tail.numel()


class HilnasCache:
    """What ``past_key_values`` holds. ``get_seq_length`` counts the tokens read, whatever the mixers are."""

    is_compileable = False

    def __init__(self) -> None:
        self.states: dict[int, Any] = {}
        self.num_tokens = 0

    def state(self, layer: int, make: Any) -> Any:
        return self.states.setdefault(layer, make())

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
