"""Building blocks that every mixer shares. Shape suffixes: B batch, T tokens, S keys, D model width, H heads, N head
width."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from search_space.rope import Llama3Scaling, Rope


@dataclass
class Sequence:
    """Positions of the tokens of one call. ``positions_BT`` count from each row's first real token; ``valid_BS`` is
    False on padding among cached and current keys (None: no padding); ``segments_BT`` separates packed documents."""

    positions_BT: Tensor
    valid_BS: Tensor | None = None
    segments_BT: Tensor | None = None

    def valid_tokens_BT1(self) -> Tensor | None:
        """The padding mask of the current tokens alone."""
        if self.valid_BS is None:
            return None
        return self.valid_BS[:, -self.positions_BT.shape[1] :].unsqueeze(-1)


class MixerModule(nn.Module):
    """Base of all trainable mixers: ``(config, d_model, norm_eps, rope)`` builds one."""

    def init_own_parameters(self) -> None:
        """Initializes parameters other than linears and norms, which the model initializes itself."""


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last axis (Zhang and Sennrich 2019), in float32 at least."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * (wide * scale).to(x.dtype)


def inverse_frequencies(head_dim: int, rope: Rope, dtype: torch.dtype = torch.float32) -> Tensor:
    """Rotary frequencies theta^(-2i/N), shape [N/2] (Su et al. 2021), the slow ones slowed further under YaRN."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).to(dtype) / head_dim
    frequencies = 1.0 / (rope.theta**exponents)
    if rope.llama3 is not None:
        return _slowed_as_llama3(frequencies, rope.llama3)
    if rope.yarn is None:
        return frequencies
    low, high = rope.yarn.blend_range(head_dim, rope.theta)
    slowed = ((torch.arange(head_dim // 2).to(dtype) - low) / max(high - low, 1e-3)).clamp(0, 1)
    return frequencies * (1 - slowed) + frequencies / rope.yarn.factor * slowed


def _slowed_as_llama3(frequencies: Tensor, scaling: Llama3Scaling) -> Tensor:
    turns = scaling.original_length * frequencies / (2 * torch.pi)
    kept = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    kept = kept.clamp(0, 1)
    return frequencies * kept + frequencies / scaling.factor * (1 - kept)


def rotate(x_BTHN: Tensor, positions_BT: Tensor, inv_freq: Tensor) -> Tensor:
    """Rotary positions in the half-split convention of Hugging Face."""
    dtype = torch.promote_types(x_BTHN.dtype, torch.float32)
    angles = positions_BT.to(dtype).unsqueeze(-1) * inv_freq.to(dtype)
    cos, sin = (torch.cat((f, f), -1).unsqueeze(2).to(x_BTHN.dtype) for f in (angles.cos(), angles.sin()))
    first, second = x_BTHN.chunk(2, dim=-1)
    return x_BTHN * cos + torch.cat((-second, first), -1) * sin
