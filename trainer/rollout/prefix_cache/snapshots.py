"""What a cache keeps of a span of tokens, and a batch's cache put together from kept spans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor

from search_space.modeling.cache import CacheState, HilnasCache, Kept
from search_space.modeling.cache.whole import Place


@dataclass(frozen=True)
class Span:
    """What each state of a model keeps of a span. ``kinds`` are the states' classes; ``logits_V`` [V] those behind the
    span's last token, only where a prompt ended."""

    kept: dict[Place, Kept]
    kinds: dict[Place, type[CacheState]]
    logits_V: Tensor | None = None

    @cached_property
    def num_bytes(self) -> int:
        logits = self.logits_V.numel() * self.logits_V.element_size() if self.logits_V is not None else 0
        return logits + sum(kept.num_bytes for kept in self.kept.values())

    def with_logits(self, logits_V: Tensor) -> Span:
        return replace(self, logits_V=logits_V.clone())


def cut(cache: HilnasCache, row: int, start: int, stop: int, mark: int | None = None) -> Span:
    """The span of one row of a batch's cache, ``start`` and ``stop`` counted from its end (``start`` further away).
    ``mark`` names a state of a reading; without one it is the cache's own, and ``stop`` is 0."""
    kept = {place: state.keep(row, start, stop, mark) for place, state in cache.states.items()}
    return Span(kept, {place: type(state) for place, state in cache.states.items()})


def restored(paths: Sequence[Sequence[Span]], lengths: Sequence[int]) -> HilnasCache:
    """One cache of B rows, each the spans of its path in order, ``lengths`` tokens in all; left-padded."""
    cache, known = HilnasCache(), next((path[0] for path in paths if path), None)
    if known is None:
        return cache
    cache.num_tokens = max(lengths)
    for place, kind in known.kinds.items():
        rows = [[span.kept[place] for span in path] for path in paths]
        cache.states[place] = kind.restored(rows, known.kept[place], cache.num_tokens)
    return cache


def merged(caches: Sequence[HilnasCache]) -> HilnasCache:
    """The rows of several caches in one, left-padded to the widest."""
    whole = HilnasCache()
    whole.num_tokens = max(cache.num_tokens for cache in caches)
    for place, first in caches[0].states.items():
        whole.states[place] = type(first).merged([cache.states[place] for cache in caches])
    return whole
