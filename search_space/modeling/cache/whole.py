"""The cache of a complete model. Supports conv-only nets, which the stock caches of transformers do not (they take the
sequence length from an attention layer)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

from torch import Tensor

from search_space.modeling.cache.base import CacheState, Reading

S = TypeVar("S", bound=CacheState)
Place = tuple[int, int]  # layer, and which of its states


class HilnasCache:
    """The type of ``past_key_values``. ``get_seq_length`` counts the tokens read, for any mixers. ``reading`` applies
    to all calls until ``end_reading``."""

    is_compileable = False

    def __init__(self) -> None:
        self.states: dict[Place, CacheState] = {}
        self.num_tokens = 0
        self.reading: Reading | None = None

    def state(self, layer: int, make: Callable[[], S], part: int = 0) -> S:
        """The state of one layer, created at the first call; ``part`` numbers the states of a mixer."""
        place = (layer, part)
        if place not in self.states:
            self.states[place] = make()
        state = self.states[place]
        state.reading = self.reading
        return state  # type: ignore[return-value]

    def end_reading(self) -> None:
        self.reading = None
        for state in self.states.values():
            state.reading = state.read = None

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.num_tokens

    def advance(self, num_tokens: int) -> None:
        self.num_tokens += num_tokens

    def snapshot(self) -> HilnasCache:
        """A copy that later calls on this cache do not change (for prefix reuse)."""
        return copy.deepcopy(self)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        for state in self.states.values():
            for name, value in vars(state).items():
                if isinstance(value, Tensor):
                    setattr(state, name, value.index_select(0, beam_idx))

    def num_elements(self) -> int:
        return sum(state.num_elements() for state in self.states.values())
