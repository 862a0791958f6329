"""What a cache keeps of a span of tokens, and a batch's cache put together from kept spans.

Keys and values can be cut anywhere, so a span holds its own rows only. A convolution's tail is known only where it was
kept: at the span's end. Shapes: B rows, H heads, S keys, N head width, D model width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from search_space.modeling.cache import ConvState, HilnasCache, KvState


@dataclass(frozen=True)
class KvRows:
    """Keys and values of a span in one layer, [2, H, S, N]. Under a window no more than its last ``window - 1``: none
    is ever seen from behind the span's end."""

    window: int
    rows: Tensor


@dataclass(frozen=True)
class Span:
    """``tails`` [taps, D] by layer and ``logits_V`` are those behind the span's last token; logits only where a
    prompt ended."""

    kv: dict[int, KvRows]
    tails: dict[int, Tensor]
    logits_V: Tensor | None = None

    @cached_property
    def num_bytes(self) -> int:
        tensors = [*(kv.rows for kv in self.kv.values()), *self.tails.values()]
        tensors += [self.logits_V] if self.logits_V is not None else []
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def with_logits(self, logits_V: Tensor) -> Span:
        return replace(self, logits_V=logits_V.clone())


def cut(cache: HilnasCache, row: int, start: int, stop: int, mark: int | None = None) -> Span:
    """The span of one row of a batch's cache, ``start`` and ``stop`` counted from its end (``start`` further away).
    ``mark`` names the convolution tail of a reading; without one it is the cache's own, and ``stop`` is 0."""
    kv, tails = {}, {}
    for layer, state in cache.states.items():
        if isinstance(state, ConvState):
            tail_BTD = state.tail if mark is None else state.read[:, mark]  # type: ignore[index]
            tails[layer] = tail_BTD[row].clone()  # type: ignore[index]
        else:
            first = min(start, stop + state.window - 1) if state.window else start
            both = (state.keys, state.values) if mark is None else state.read
            width = both[0].shape[2]
            rows = torch.stack([tensor[row, :, width - first : width - stop] for tensor in both])
            kv[layer] = KvRows(state.window, rows)
    return Span(kv, tails)


def restored(paths: Sequence[Sequence[Span]], lengths: Sequence[int]) -> HilnasCache:
    """One cache of B rows, each the spans of its path in order, ``lengths`` tokens in all; left-padded."""
    cache, known = HilnasCache(), next((path[0] for path in paths if path), None)
    if known is None:
        return cache
    cache.num_tokens = max(lengths)
    for layer, kv in known.kv.items():
        state = KvState(kv.window)
        width = min(cache.num_tokens, kv.window - 1) if kv.window else cache.num_tokens
        state.keys, state.values = _stacked_rows([[s.kv[layer].rows for s in path] for path in paths], kv.rows, width)
        cache.states[layer] = state
    for layer, tail in known.tails.items():
        conv = ConvState()
        conv.tail = torch.stack([path[-1].tails[layer] if path else torch.zeros_like(tail) for path in paths])
        cache.states[layer] = conv
    return cache


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


def merged(caches: Sequence[HilnasCache]) -> HilnasCache:
    """The rows of several caches in one, left-padded to the widest."""
    whole = HilnasCache()
    whole.num_tokens = max(cache.num_tokens for cache in caches)
    for layer, first in caches[0].states.items():
        states = [cache.states[layer] for cache in caches]
        if isinstance(first, ConvState):
            conv = ConvState()
            conv.tail = torch.cat([state.tail for state in states])
            whole.states[layer] = conv
        else:
            kv = KvState(first.window)
            kv.keys, kv.values = (_left_padded([getattr(s, name) for s in states]) for name in ("keys", "values"))
            whole.states[layer] = kv
    return whole


def _left_padded(tensors: Sequence[Tensor]) -> Tensor:
    width = max(tensor.shape[2] for tensor in tensors)
    return torch.cat([torch.nn.functional.pad(t, (0, 0, width - t.shape[2], 0)) for t in tensors])
