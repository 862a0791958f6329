"""What every mixer's configuration answers without torch: is it valid, what does it cost, what state does it keep."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from foundation.errors import InvalidConfig


@dataclass(frozen=True)
class StateSpec:
    """One piece of decode-time state of a layer, as the runner allocates it."""

    kind: Literal["kv", "conv"]
    num_kv_heads: int = 0
    head_dim: int = 0
    window: int = 0
    channels: int = 0
    taps: int = 0

    def num_elements(self, context: int) -> int:
        """Scalars held once ``context`` tokens have been read (a window never holds more than itself)."""
        if self.kind == "conv":
            return self.channels * self.taps
        rows = min(context, self.window) if self.window else context
        return 2 * self.num_kv_heads * self.head_dim * rows

    def to_plan(self) -> dict[str, Any]:
        """The runner plan's record of this state."""
        if self.kind == "conv":
            return {"kind": "conv", "channels": self.channels, "taps": self.taps}
        return {"kind": "kv", "num_kv_heads": self.num_kv_heads, "head_dim": self.head_dim, "window": self.window}


@dataclass(frozen=True)
class Linear:
    """Shape of one matrix multiplication: ``in_features`` -> ``out_features``, no bias."""

    in_features: int
    out_features: int

    @property
    def num_params(self) -> int:
        return self.in_features * self.out_features


@dataclass(frozen=True)
class MixerConfig:
    """Base of all mixers. A new mixer is one folder: ``config.py`` (this class), ``module.py`` (torch), ``deploy.py``
    (export form), and one line in ``search_space.mixers.MIXERS``."""

    kind: ClassVar[str] = ""

    def validate(self, d_model: int) -> None:
        """Raises InvalidConfig with a sentence when this mixer cannot be built at ``d_model``."""

    def linears(self, d_model: int) -> tuple[Linear, ...]:
        """Every matrix multiplication (these are quantized on export)."""
        return ()

    def num_other_params(self, d_model: int) -> int:
        """Parameters that stay in float32 on export: norms inside the mixer, depthwise kernels."""
        return 0

    def states(self, d_model: int) -> tuple[StateSpec, ...]:
        return ()

    def context_macs(self, d_model: int, context: int) -> int:
        """Multiply-adds per decoded token outside the linears, with ``context`` tokens already read."""
        return 0

    @property
    def is_identity(self) -> bool:
        """True when the layer has no mixer at all (no pre-norm either)."""
        return False

    @property
    def label(self) -> str:
        """Short name with what differs from the defaults, e.g. ``gqa(16/8x64)``."""
        return self.kind

    def num_params(self, d_model: int) -> int:
        return sum(linear.num_params for linear in self.linears(d_model)) + self.num_other_params(d_model)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, **{f.name: getattr(self, f.name) for f in fields(self)}}


def require_positive(owner: str, **values: int) -> None:
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            raise InvalidConfig(f"{owner}: {name} must be a positive whole number, got {value!r}")
