"""Grouped-query attention over the whole context (Ainslie et al. 2023), with rotary positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from foundation.errors import InvalidConfig
from search_space.mixers.base import Linear, MixerConfig, StateSpec, require_positive


@dataclass(frozen=True)
class Gqa(MixerConfig):
    """``qk_norm``: RMS norm per head before the rotation (Qwen3, LFM2). ``gate``: one sigmoid gate per head on the
    attention output (LFM3). ``rope_theta``: 0 takes the architecture's."""

    kind: ClassVar[str] = "gqa"
    num_heads: int = 16
    num_kv_heads: int = 8
    head_dim: int = 64
    qk_norm: bool = True
    gate: bool = False
    rope_theta: float = 0.0

    @property
    def attention_window(self) -> int:
        """Tokens a query sees, itself included; 0 is the whole context."""
        return 0

    def validate(self, d_model: int) -> None:
        require_positive(self.kind, num_heads=self.num_heads, num_kv_heads=self.num_kv_heads, head_dim=self.head_dim)
        if self.num_heads % self.num_kv_heads:
            divisors = [n for n in range(1, self.num_heads + 1) if self.num_heads % n == 0]
            raise InvalidConfig(
                f"{self.kind}: num_kv_heads must divide num_heads, got {self.num_kv_heads} for {self.num_heads} heads"
                f" (would work: {', '.join(map(str, divisors))})"
            )
        if self.head_dim % 2:
            raise InvalidConfig(f"{self.kind}: head_dim must be even for rotary positions, got {self.head_dim}")

    def linears(self, d_model: int) -> tuple[Linear, ...]:
        q_width, kv_width = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        projections = (Linear(d_model, q_width), Linear(d_model, kv_width), Linear(d_model, kv_width))
        gate = (Linear(d_model, self.num_heads),) if self.gate else ()
        return (*projections, *gate, Linear(q_width, d_model))

    def num_other_params(self, d_model: int) -> int:
        return 2 * self.head_dim if self.qk_norm else 0

    def states(self, d_model: int) -> tuple[StateSpec, ...]:
        return (StateSpec("kv", self.num_kv_heads, self.head_dim, self.attention_window),)

    def context_macs(self, d_model: int, context: int) -> int:
        seen = context + 1
        if self.attention_window:
            seen = min(seen, self.attention_window)
        return 2 * self.num_heads * self.head_dim * seen

    @property
    def label(self) -> str:
        options = "".join((",no-qk-norm" if not self.qk_norm else "", ",gate" if self.gate else ""))
        return f"{self.kind}({self.num_heads}/{self.num_kv_heads}x{self.head_dim}{options})"
