"""Grouped-query attention over the whole context (Ainslie et al. 2023), with rotary positions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log
from typing import TYPE_CHECKING, ClassVar, Self

from foundation.errors import InvalidConfig
from search_space.mixers.base import Linear, MixerConfig, ProxySize, require_positive
from search_space.states import KvSpec

if TYPE_CHECKING:
    from torch import nn

DEBUG_HEAD_DIM = 32
SHRUNK_HEAD_DIMS = (8, 12, 16, 20, 24, 32, 48, 64, 96, 128)


@dataclass(frozen=True)
class Gqa(MixerConfig):
    """``qk_norm``: RMS norm per head before the rotation (Qwen3, LFM2). ``gate``: one sigmoid gate per head on the
    attention output (LFM3). ``rope_theta``: 0 takes the architecture's."""

    kind: ClassVar[str] = "gqa"
    title: ClassVar[str] = "grouped-query attention"
    letter: ClassVar[str] = "A"
    colour: ClassVar[str] = "#e08a00"
    settings: ClassVar[str] = "{num_heads}/{num_kv_heads} heads × {head_dim}"
    traits: ClassVar[tuple[str, ...]] = ("whole_context",)
    rotates: ClassVar[bool] = True
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
        if self.rope_theta and self.rope_theta <= 1:
            given = self.rope_theta
            raise InvalidConfig(f"{self.kind}: rope_theta must be above 1, or 0 for the architecture's, got {given:g}")
        if self.head_dim % 2:
            raise InvalidConfig(f"{self.kind}: head_dim must be even for rotary positions, got {self.head_dim}")

    def linears(self, d_model: int) -> tuple[Linear, ...]:
        q_width, kv_width = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        projections = (Linear(d_model, q_width), Linear(d_model, kv_width), Linear(d_model, kv_width))
        gate = (Linear(d_model, self.num_heads),) if self.gate else ()
        return (*projections, *gate, Linear(q_width, d_model))

    def num_other_params(self, d_model: int) -> int:
        return 2 * self.head_dim if self.qk_norm else 0

    def states(self, d_model: int) -> tuple[KvSpec, ...]:
        return (KvSpec(self.num_kv_heads, self.head_dim, self.attention_window),)

    def context_macs(self, d_model: int, context: int) -> int:
        seen = context + 1
        if self.attention_window:
            seen = min(seen, self.attention_window)
        return 2 * self.num_heads * self.head_dim * seen

    def shrunk(self, size: ProxySize) -> Self:
        """The widths of queries and of keys keep their ratios to the model's; narrower heads share the reduction with
        fewer heads, so that kv heads and head size both still tell two mixers apart."""
        wanted = (self.num_heads * self.head_dim * size.ratio, self.num_kv_heads * self.head_dim * size.ratio)
        head_dim = self.head_dim * size.ratio**0.5

        def error(shape: tuple[int, int, int]) -> float:
            heads, kv_heads, width = shape
            widths = abs(log(heads * width / wanted[0])) + abs(log(kv_heads * width / wanted[1]))
            return 4 * widths + abs(log(width / head_dim))

        num_heads, num_kv_heads, width = min(self._smaller_shapes(), key=error)
        return replace(self, num_heads=num_heads, num_kv_heads=num_kv_heads, head_dim=width, rope_theta=0.0)

    def _smaller_shapes(self) -> list[tuple[int, int, int]]:
        """(heads, kv heads, head width) of no more heads than this one's."""
        return [
            (heads, kv_heads, width)
            for heads in range(1, self.num_heads + 1)
            for kv_heads in range(1, min(heads, self.num_kv_heads) + 1)
            if heads % kv_heads == 0
            for width in SHRUNK_HEAD_DIMS
        ]

    def at_debug_size(self, d_model: int) -> Self:
        group, num_kv_heads = self.num_heads // self.num_kv_heads, max(1, min(2, self.num_kv_heads))
        return replace(self, num_heads=num_kv_heads * group, num_kv_heads=num_kv_heads, head_dim=DEBUG_HEAD_DIM)

    @property
    def label(self) -> str:
        theta = f",theta{self.rope_theta:g}" if self.rope_theta else ""
        options = "".join((",no-qk-norm" if not self.qk_norm else "", ",gate" if self.gate else "", theta))
        return f"{self.kind}({self.num_heads}/{self.num_kv_heads}x{self.head_dim}{options})"

    @classmethod
    def module_class(cls) -> type[nn.Module]:
        from search_space.mixers.gqa.module import GqaModule

        return GqaModule

    @classmethod
    def deployed_class(cls) -> type[nn.Module]:
        from search_space.mixers.gqa.deploy import DeployedGqa

        return DeployedGqa
