"""Faster forms of a model's norms and attention on a GPU, equal up to rounding: no padding, no cache, no documents."""

from __future__ import annotations

from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm, scaled_dot_product_attention

from search_space.mixers.gqa.module import GqaModule
from search_space.modeling.layers import RMSNorm, Sequence, inverse_frequencies
from search_space.modeling.model import HilnasForCausalLM


def use_fused_parts(model: HilnasForCausalLM) -> None:
    """Replaces the forward of every norm and every attention of ``model``."""
    for module in model.modules():
        if isinstance(module, RMSNorm):
            _replace(module, _norm)
        elif isinstance(module, GqaModule):
            _replace(module, _attention)


def _replace(module: nn.Module, forward: Any) -> None:
    module.forward = MethodType(forward, module)  # type: ignore[method-assign]


def _norm(self: RMSNorm, x: Tensor) -> Tensor:
    return rms_norm(x.float(), (x.shape[-1],), self.weight, self.eps)


def _attention(self: GqaModule, x_BTD: Tensor, sequence: Sequence, cache: Any = None, layer: int = 0) -> Tensor:
    """Keys and values are repeated for their groups and the causal case has no mask: the fast kernels ask for it."""
    tables = _tables(self, x_BTD)
    q_BHTN = _positioned(self.q_proj(x_BTD), self.q_norm, self.config.head_dim, tables)
    k_BHTN = _positioned(self.k_proj(x_BTD), self.k_norm, self.config.head_dim, tables)
    v_BHTN = self.v_proj(x_BTD).unflatten(-1, (-1, self.config.head_dim)).transpose(1, 2)
    group = self.config.num_heads // self.config.num_kv_heads
    k_BHTN, v_BHTN = (x.repeat_interleave(group, 1).to(q_BHTN.dtype) for x in (k_BHTN, v_BHTN))
    mixed_BHTN = scaled_dot_product_attention(
        q_BHTN, k_BHTN, v_BHTN, attn_mask=tables.band_TT, is_causal=tables.band_TT is None
    )
    mixed_BTHN = mixed_BHTN.transpose(1, 2)
    if self.gate_proj is not None:
        mixed_BTHN = mixed_BTHN * torch.sigmoid(self.gate_proj(x_BTD)).unsqueeze(-1)
    return self.o_proj(mixed_BTHN.flatten(2))


@dataclass(frozen=True)
class _Tables:
    """What depends on positions alone. ``band_TT``: the last tokens of a window; None where all are seen."""

    cos_TN: Tensor
    sin_TN: Tensor
    band_TT: Tensor | None


def _tables(self: GqaModule, x_BTD: Tensor) -> _Tables:
    """Made once for each length: made in every call, they would make the processor wait for the GPU."""
    kept: dict[int, _Tables] = self.__dict__.setdefault("_fused_tables", {})
    num_tokens = x_BTD.shape[1]
    if num_tokens not in kept:
        kept[num_tokens] = _made(self, num_tokens, x_BTD.device)
    return kept[num_tokens]


def _made(self: GqaModule, num_tokens: int, device: torch.device) -> _Tables:
    frequencies = inverse_frequencies(self.config.head_dim, self.rope)
    angles_TN = torch.arange(num_tokens)[:, None] * frequencies.repeat(2)
    scale = self.rope.attention_factor if self.rope.yarn is not None else 1.0
    window, square = self.config.attention_window, torch.ones(num_tokens, num_tokens, dtype=torch.bool)
    band = (square.tril() & square.triu(1 - window)).to(device) if window else None
    return _Tables((angles_TN.cos() * scale).to(device), (angles_TN.sin() * scale).to(device), band)


def _positioned(projected_BTD: Tensor, norm: nn.Module | None, head_dim: int, tables: _Tables) -> Tensor:
    heads_BTHN = projected_BTD.unflatten(-1, (-1, head_dim))
    heads_BHTN = (heads_BTHN if norm is None else norm(heads_BTHN)).transpose(1, 2)
    first, second = heads_BHTN.chunk(2, dim=-1)
    return heads_BHTN * tables.cos_TN + torch.cat((-second, first), -1) * tables.sin_TN
