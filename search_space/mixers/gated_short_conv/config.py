"""Gated short convolution (LFM2): B, C, x = in_proj(h); out_proj(C * causal_depthwise_conv(B * x))."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from foundation.errors import InvalidConfig
from search_space.mixers.base import Linear, MixerConfig, require_positive
from search_space.states import ConvSpec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class GatedShortConv(MixerConfig):
    """``kernel`` taps over ``d_model`` channels. Decode state: the last ``kernel - 1`` gated inputs per channel."""

    kind: ClassVar[str] = "gated_short_conv"
    title: ClassVar[str] = "gated short convolution"
    letter: ClassVar[str] = "C"
    colour: ClassVar[str] = "#2f7fc1"
    settings: ClassVar[str] = "kernel {kernel}"
    traits: ClassVar[tuple[str, ...]] = ("local",)
    kernel: int = 3

    def validate(self, d_model: int) -> None:
        require_positive(self.kind, kernel=self.kernel)
        if not 2 <= self.kernel <= 64:
            raise InvalidConfig(
                f"gated_short_conv: kernel must be 2 to 64, got {self.kernel} (LFM2 uses 3, LFM3 uses 7)"
            )

    def linears(self, d_model: int) -> tuple[Linear, ...]:
        return (Linear(d_model, 3 * d_model), Linear(d_model, d_model))

    def num_other_params(self, d_model: int) -> int:
        return d_model * self.kernel

    def states(self, d_model: int) -> tuple[ConvSpec, ...]:
        return (ConvSpec(channels=d_model, taps=self.kernel - 1),)

    def context_macs(self, d_model: int, context: int) -> int:
        return d_model * (self.kernel + 2)

    @property
    def label(self) -> str:
        return f"gated_short_conv(k{self.kernel})"

    @classmethod
    def module_class(cls) -> type[nn.Module]:
        from search_space.mixers.gated_short_conv.module import GatedShortConvModule

        return GatedShortConvModule

    @classmethod
    def deployed_class(cls) -> type[nn.Module]:
        from search_space.mixers.gated_short_conv.deploy import DeployedGatedShortConv

        return DeployedGatedShortConv
