"""One matrix per head, as in recurrences: linear attention, state-space models, moving averages (key_dim 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from search_space.states.base import STATE_KINDS, StateSpec

if TYPE_CHECKING:
    from torch import Tensor

    from search_space.modeling.cache import MatrixState


@STATE_KINDS.register("matrix")
@dataclass(frozen=True)
class MatrixSpec(StateSpec):
    """[num_heads, key_dim, value_dim] in float32 for any cache type: a recurrence accumulates rounding errors."""

    kind: ClassVar[str] = "matrix"
    num_heads: int
    key_dim: int
    value_dim: int

    def num_elements(self, context: int) -> int:
        return self.num_heads * self.key_dim * self.value_dim

    def tensors(self, capacity: int, zeros: Callable[..., Tensor]) -> dict[str, Tensor]:
        """[H, K, V]."""
        return {"matrix": zeros(self.num_heads, self.key_dim, self.value_dim)}

    def cache_state(self) -> MatrixState:
        from search_space.modeling.cache import MatrixState

        return MatrixState()
