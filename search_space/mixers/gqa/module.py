"""Grouped-query attention in torch; the sliding window is the same module with ``attention_window`` set."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from search_space.mixers.gqa.config import Gqa
from search_space.modeling.cache import HilnasCache, KvState
from search_space.modeling.layers import MixerModule, RMSNorm, Sequence, inverse_frequencies, rotate
from search_space.rope import Rope


class GqaModule(MixerModule):
    """x_BTD -> [B, T, D]."""

    def __init__(self, config: Gqa, d_model: int, norm_eps: float, rope: Rope) -> None:
        super().__init__()
        self.config = config
        # a window never sees further than it was trained to
        self.rope = replace(
            rope, theta=config.rope_theta or rope.theta, yarn=None if config.attention_window else rope.yarn
        )
        q_width, kv_width = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        self.q_proj = nn.Linear(d_model, q_width, bias=False)
        self.k_proj = nn.Linear(d_model, kv_width, bias=False)
        self.v_proj = nn.Linear(d_model, kv_width, bias=False)
        self.gate_proj = nn.Linear(d_model, config.num_heads, bias=False) if config.gate else None
        self.q_norm = RMSNorm(config.head_dim, norm_eps) if config.qk_norm else None
        self.k_norm = RMSNorm(config.head_dim, norm_eps) if config.qk_norm else None
        self.o_proj = nn.Linear(q_width, d_model, bias=False)

    def forward(self, x_BTD: Tensor, sequence: Sequence, cache: HilnasCache | None = None, layer: int = 0) -> Tensor:
        q_BTHN = self._positioned(self.q_proj(x_BTD), self.q_norm, sequence)
        k_BTHN = self._positioned(self.k_proj(x_BTD), self.k_norm, sequence)
        v_BTHN = self.v_proj(x_BTD).unflatten(-1, (-1, self.config.head_dim))
        keys, values = k_BTHN.transpose(1, 2), v_BTHN.transpose(1, 2)
        if cache is not None:
            keys, values = cache.state(layer, partial(KvState, self.config.attention_window)).extend(keys, values)
        mixed_BTHN = attend(q_BTHN.transpose(1, 2), keys, values, sequence, self.config.attention_window)
        if self.gate_proj is not None:
            mixed_BTHN = mixed_BTHN * torch.sigmoid(self.gate_proj(x_BTD)).unsqueeze(-1)
        return self.o_proj(mixed_BTHN.flatten(2))

    def _positioned(self, projected_BTD: Tensor, norm: RMSNorm | None, sequence: Sequence) -> Tensor:
        heads_BTHN = projected_BTD.unflatten(-1, (-1, self.config.head_dim))
        if norm is not None:
            heads_BTHN = norm(heads_BTHN)
        dtype = torch.promote_types(heads_BTHN.dtype, torch.float32)
        frequencies = inverse_frequencies(self.config.head_dim, self.rope, dtype).to(heads_BTHN.device)
        if self.rope.yarn is not None:
            heads_BTHN = heads_BTHN * self.rope.attention_factor
        return rotate(heads_BTHN, sequence.positions_BT, frequencies)


def attend(q_BHTN: Tensor, keys: Tensor, values: Tensor, sequence: Sequence, window: int) -> Tensor:
    """Attention of fewer key-value heads than query heads -> [B, T, H, N]."""
    attention, grouped = nn.functional.scaled_dot_product_attention, q_BHTN.shape[1] != keys.shape[1]
    if not q_BHTN.is_cuda:
        mask = attention_mask(sequence, keys.shape[2], window)
        return attention(q_BHTN, keys, values, attn_mask=mask, enable_gqa=grouped).transpose(1, 2)
    # the kernels of CUDA that need no T x S matrix take equal heads, and the fastest takes no mask
    group = q_BHTN.shape[1] // keys.shape[1]
    keys, values = (x.repeat_interleave(group, 1) if grouped else x for x in (keys, values))
    whole = keys.shape[2] == q_BHTN.shape[2] and sequence.valid_BS is None and sequence.segments_BT is None
    if whole and not 0 < window < keys.shape[2]:
        return attention(q_BHTN, keys, values, is_causal=True).transpose(1, 2)
    mask = attention_mask(sequence, keys.shape[2], window)
    return attention(q_BHTN, keys, values, attn_mask=mask).transpose(1, 2)


def attention_mask(sequence: Sequence, num_keys: int, window: int) -> Tensor:
    """Boolean [B or 1, 1, T, S]: causal, inside the window, not padding, same packed document."""
    num_tokens = sequence.positions_BT.shape[1]
    query = torch.arange(num_keys - num_tokens, num_keys, device=sequence.positions_BT.device).unsqueeze(1)
    key = torch.arange(num_keys, device=sequence.positions_BT.device).unsqueeze(0)
    allowed = key <= query
    if window:
        allowed = allowed & (key > query - window)
    mask = allowed[None, None]
    if sequence.valid_BS is not None:
        # A padded query row would see nothing; it sees itself so that softmax stays finite.
        mask = (mask & sequence.valid_BS[:, None, None, -num_keys:]) | (key == query)
    if sequence.segments_BT is not None:
        segments = sequence.segments_BT
        mask = mask & (segments[:, None, :, None] == segments[:, None, None, :])
    return mask
