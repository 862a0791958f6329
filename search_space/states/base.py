"""The interface of decode-time states, without torch: size, record in a plan, tensors.

A mixer keeps its state outside the exported graph: operators take slot ids, and the host of the program (the C++
runner, the eager reference) holds the states. A kind is described here, and implemented in torch in
``search_space/modeling/cache`` and for the runner in ``kernels/runtime/states``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from foundation.errors import InvalidConfig
from foundation.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from search_space.modeling.cache import CacheState


@dataclass(frozen=True)
class StateSpec:
    """One state of one layer; the fields of a kind are its sizes, in the order of a plan.

    ``in_cache_dtype``: stored in the cache's type (keys and values), else in float32. ``grows_with_context``: has a row
    per token; else its size is fixed and a prefix can be restored only where the state was kept.
    """

    kind: ClassVar[str] = ""
    in_cache_dtype: ClassVar[bool] = False
    grows_with_context: ClassVar[bool] = False

    def num_elements(self, context: int) -> int:
        """Scalars held once ``context`` tokens have been read."""
        raise NotImplementedError

    def tensors(self, capacity: int, zeros: Callable[..., Tensor]) -> dict[str, Tensor]:
        """The tensors of one slot in the eager reference of the operators; ``zeros(*shape)`` makes a float32 tensor,
        ``zeros(*shape, cached=True)`` one of the cache's type."""
        raise NotImplementedError

    def cache_state(self) -> CacheState:
        """An empty state of this kind for ``HilnasCache`` (Hugging Face models in training and generation)."""
        raise NotImplementedError

    def to_plan(self) -> dict[str, Any]:
        """The runner plan's record of this state."""
        return {"kind": self.kind, **{field.name: getattr(self, field.name) for field in fields(self)}}


STATE_KINDS: Registry[type[StateSpec]] = Registry("state kind")


def state_from_plan(record: dict[str, Any]) -> StateSpec:
    """Inverse of ``StateSpec.to_plan``. Raises InvalidConfig with the known kinds or sizes."""
    kind = STATE_KINDS.get_or_raise(record.get("kind", ""))
    sizes = {name: value for name, value in record.items() if name != "kind"}
    try:
        return kind(**sizes)
    except TypeError:
        known = ", ".join(field.name for field in fields(kind))
        raise InvalidConfig(f"state kind {kind.kind}: sizes {sorted(sizes)} do not fit; known: {known}") from None
