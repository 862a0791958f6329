"""Keys and values by position, over the whole context or a window of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from search_space.states.base import STATE_KINDS, StateSpec

if TYPE_CHECKING:
    from torch import Tensor

    from search_space.modeling.cache import KvState


@STATE_KINDS.register("kv")
@dataclass(frozen=True)
class KvSpec(StateSpec):
    """``window`` 0 is the whole context; with a window, at most that many rows are kept."""

    kind: ClassVar[str] = "kv"
    in_cache_dtype: ClassVar[bool] = True
    grows_with_context: ClassVar[bool] = True
    num_kv_heads: int
    head_dim: int
    window: int = 0

    def num_elements(self, context: int) -> int:
        rows = min(context, self.window) if self.window else context
        return 2 * self.num_kv_heads * self.head_dim * rows

    def tensors(self, capacity: int, zeros: Callable[..., Tensor]) -> dict[str, Tensor]:
        """[capacity, H, N] each."""
        shape = (capacity, self.num_kv_heads, self.head_dim)
        return {"keys": zeros(*shape, cached=True), "values": zeros(*shape, cached=True)}

    def cache_state(self) -> KvState:
        from search_space.modeling.cache import KvState

        return KvState(self.window)
