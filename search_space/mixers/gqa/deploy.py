"""Export form: quantized projections around norm-and-rotate and cached attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from search_space.mixers.gqa.module import GqaModule
from search_space.modeling.layers import inverse_frequencies
from search_space.modeling.ops import ops


class DeployedGqa(nn.Module):
    """x [1, T, D], slots [S] int64, pos [1] int64 -> [1, T, D]. Takes over the trained module's parameters."""

    def __init__(self, trained: GqaModule, index: int) -> None:
        super().__init__()
        self.config, self.index = trained.config, index
        self.q_proj, self.k_proj, self.v_proj = trained.q_proj, trained.k_proj, trained.v_proj
        self.gate_proj, self.o_proj = trained.gate_proj, trained.o_proj
        self.q_weight, self.k_weight = (
            nn.Parameter(norm.weight.detach().float(), requires_grad=False) if norm is not None else None
            for norm in (trained.q_norm, trained.k_norm)
        )
        self.eps = trained.q_norm.eps if trained.q_norm is not None else 0.0
        self.register_buffer("inv_freq", inverse_frequencies(self.config.head_dim, trained.rope))
        # YaRN's factor on queries and on keys, as one on their product
        self.scale = trained.rope.attention_factor**2 * self.config.head_dim**-0.5

    def forward(self, x: Tensor, slots: Tensor, pos: Tensor) -> Tensor:
        heads = (-1, self.config.head_dim)
        q = ops.norm_rope(self.q_proj(x).unflatten(-1, heads), self.q_weight, self.inv_freq, pos, self.eps)
        k = ops.norm_rope(self.k_proj(x).unflatten(-1, heads), self.k_weight, self.inv_freq, pos, self.eps)
        v = self.v_proj(x).unflatten(-1, heads)
        mixed = ops.attention(q, k, v, slots, pos, self.index, self.config.attention_window, self.scale)
        if self.gate_proj is not None:
            mixed = mixed * torch.sigmoid(self.gate_proj(x)).unsqueeze(-1)
        return self.o_proj(mixed.flatten(2))
