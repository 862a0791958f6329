"""The last inputs of a short convolution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from search_space.states.base import STATE_KINDS, StateSpec

if TYPE_CHECKING:
    from torch import Tensor

    from search_space.modeling.cache import ConvState


@STATE_KINDS.register("conv")
@dataclass(frozen=True)
class ConvSpec(StateSpec):
    """``taps`` past inputs of every one of ``channels``."""

    kind: ClassVar[str] = "conv"
    channels: int
    taps: int

    def num_elements(self, context: int) -> int:
        return self.channels * self.taps

    def tensors(self, capacity: int, zeros: Callable[..., Tensor]) -> dict[str, Tensor]:
        """[taps, channels], oldest first."""
        return {"tail": zeros(self.taps, self.channels)}

    def cache_state(self) -> ConvState:
        from search_space.modeling.cache import ConvState

        return ConvState()
