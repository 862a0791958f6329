"""The gated short convolution in torch: parallel over tokens, or continued from a state, with equal numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from search_space.mixers.gated_short_conv.config import GatedShortConv
from search_space.modeling.cache import ConvState, HilnasCache
from search_space.modeling.layers import MixerModule, Sequence
from search_space.rope import Rope


class GatedShortConvModule(MixerModule):
    """x_BTD -> [B, T, D]. ``conv_weight`` is [D, K]; its last column multiplies the current token."""

    def __init__(self, config: GatedShortConv, d_model: int, norm_eps: float, rope: Rope) -> None:
        super().__init__()
        self.config = config
        self.in_proj = nn.Linear(d_model, 3 * d_model, bias=False)
        self.conv_weight = nn.Parameter(torch.empty(d_model, config.kernel).uniform_(-0.5, 0.5))
        self.out_proj = nn.Linear(d_model, d_model, bias=False)

    def init_own_parameters(self) -> None:
        """torch's own depthwise default: uniform within 1 / sqrt(kernel)."""
        bound = float(self.config.kernel) ** -0.5
        nn.init.uniform_(self.conv_weight, -bound, bound)

    def forward(self, x_BTD: Tensor, sequence: Sequence, cache: HilnasCache | None = None, layer: int = 0) -> Tensor:
        valid = sequence.valid_tokens_BT1()
        if valid is not None:
            x_BTD = x_BTD * valid
        b, c, x = self.in_proj(x_BTD).chunk(3, dim=-1)
        return self.out_proj(c * self._convolve(b * x, sequence, cache, layer))

    def _convolve(self, gated_BTD: Tensor, sequence: Sequence, cache: HilnasCache | None, layer: int) -> Tensor:
        """K shifted multiply-adds: faster than a depthwise Conv1d on CPU back ends, and segments can be masked."""
        taps, num_tokens = self.config.kernel - 1, gated_BTD.shape[1]
        if cache is None:
            joined = torch.nn.functional.pad(gated_BTD, (0, 0, taps, 0))
        else:
            joined = cache.state(layer, ConvState).extend(gated_BTD, taps)
        segments = sequence.segments_BT
        total = gated_BTD * self.conv_weight[:, taps]
        for shift in range(1, taps + 1):
            shifted = joined[:, taps - shift : taps - shift + num_tokens]
            if segments is not None:
                shifted = shifted * _same_segment(segments, shift).unsqueeze(-1)
            total = total + shifted * self.conv_weight[:, taps - shift]
        return total


def _same_segment(segments_BT: Tensor, shift: int) -> Tensor:
    """1 where token t and token t - shift belong to one packed document (shape [B, T])."""
    before = torch.nn.functional.pad(segments_BT, (shift, 0), value=-1)[:, : segments_BT.shape[1]]
    return before == segments_BT
