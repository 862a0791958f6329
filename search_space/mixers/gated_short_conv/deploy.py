"""Export form: two quantized linears around one fused operator."""

from __future__ import annotations

from torch import Tensor, nn

from search_space.mixers.gated_short_conv.module import GatedShortConvModule
from search_space.modeling.ops import ops


class DeployedGatedShortConv(nn.Module):
    """x [1, T, D], slots [S] int64, pos [1] int64 -> [1, T, D]. Takes over the trained module's parameters."""

    def __init__(self, trained: GatedShortConvModule, index: int) -> None:
        super().__init__()
        self.in_proj, self.out_proj = trained.in_proj, trained.out_proj
        self.conv_weight = nn.Parameter(trained.conv_weight.detach().float().contiguous(), requires_grad=False)
        self.index = index

    def forward(self, x: Tensor, slots: Tensor, pos: Tensor) -> Tensor:
        mixed = ops.gated_short_conv(self.in_proj(x), self.conv_weight, slots, pos, self.index)
        return self.out_proj(mixed)
