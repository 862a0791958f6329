"""A mixer of stock operators: a gated exponential moving average, one decay per head (as in Mega, Ma et al. 2023).

h_t = a h_{t-1} + (1 - a) v_t;  out = W_o (sigmoid(g_t) * h_t). B rows, T tokens, D width, H heads, N head width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from foundation.errors import InvalidConfig
from search_space.mixers import MIXERS, Linear, MixerConfig
from search_space.mixers.base import require_positive
from search_space.modeling.cache import HilnasCache, MatrixState
from search_space.modeling.layers import MixerModule, Sequence
from search_space.modeling.ops import ops
from search_space.rope import Rope
from search_space.states import MatrixSpec


class GatedEmaModule(MixerModule):
    def __init__(self, config: GatedEma, d_model: int, norm_eps: float, rope: Rope) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.in_proj, self.out_proj = nn.Linear(d_model, 2 * d_model, False), nn.Linear(d_model, d_model, False)
        self.decay_H = nn.Parameter(torch.linspace(0.0, 4.0, config.num_heads))  # a = sigmoid(decay)

    def forward(self, x_BTD: Tensor, sequence: Sequence, cache: HilnasCache | None = None, layer: int = 0) -> Tensor:
        values, gate = self.in_proj(x_BTD).chunk(2, -1)
        valid = sequence.valid_tokens_BT1()
        valid = torch.ones_like(x_BTD[..., :1]) if valid is None else valid.to(x_BTD.dtype)
        steps_BT = valid[..., 0].cumsum(1)  # padding is no step
        seen = (steps_BT[:, :, None] - steps_BT[:, None]).clamp(min=0)
        mask = torch.ones_like(seen).tril() * valid.transpose(1, 2)
        if sequence.segments_BT is not None:
            mask = mask * (sequence.segments_BT[:, :, None] == sequence.segments_BT[:, None])
        log_a_H11 = nn.functional.logsigmoid(self.decay_H)[:, None, None]
        weights_BHTT = (log_a_H11 * seen[:, None]).exp() * mask[:, None] * -torch.expm1(log_a_H11)
        average = weights_BHTT @ values.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # [B, H, T, N]
        if cache is not None:
            state = cache.state(layer, MatrixState)
            before = state.before(average[:, :, :1])
            average = average + (log_a_H11 * steps_BT[:, None, :, None]).exp() * before
            state.store(average.transpose(1, 2).unsqueeze(3))
        return self.out_proj(gate.sigmoid() * average.transpose(1, 2).flatten(2))


class DeployedGatedEma(nn.Module):
    """x [1, T, D], slots [S], pos [1] -> [1, T, D]."""

    def __init__(self, trained: GatedEmaModule, index: int) -> None:
        super().__init__()
        self.in_proj, self.out_proj, self.index = trained.in_proj, trained.out_proj, index
        self.register_buffer("log_a", nn.functional.logsigmoid(trained.decay_H.detach().float())[:, None, None])

    def forward(self, x: Tensor, slots: Tensor, pos: Tensor) -> Tensor:
        values, gate = self.in_proj(x).chunk(2, -1)
        heads, width = self.log_a.shape[0], x.shape[2] // self.log_a.shape[0]
        before = ops.matrix_state_read(x, slots, self.index, heads, 1, width)[0]  # [H, 1, N]
        step = torch.ones_like(x[0, :, 0]).cumsum(0)
        seen = step[:, None] - step[None]
        weights = (self.log_a * seen.clamp(min=0)).exp() * (seen >= 0) * (1 - self.log_a.exp())
        average = weights @ values[0].unflatten(-1, (heads, width)).transpose(0, 1)
        average = average + (self.log_a * step[None, :, None]).exp() * before
        gated = gate.sigmoid() * average.transpose(0, 1).flatten(1)[None]
        return self.out_proj(ops.matrix_state_write(gated, average[None, :, -1:], slots, self.index))


@MIXERS.register("gated_ema")
@dataclass(frozen=True)
class GatedEma(MixerConfig):
    kind: ClassVar[str] = "gated_ema"
    title: ClassVar[str] = "gated moving average"
    letter: ClassVar[str] = "E"
    colour: ClassVar[str] = "#b8649c"
    num_heads: int = 4

    def validate(self, d_model: int) -> None:
        require_positive(self.kind, num_heads=self.num_heads)
        if d_model % self.num_heads:
            raise InvalidConfig(f"{self.kind}: num_heads must divide the width {d_model}, got {self.num_heads}")

    def linears(self, d_model: int) -> tuple[Linear, ...]:
        return Linear(d_model, 2 * d_model), Linear(d_model, d_model)

    def num_other_params(self, d_model: int) -> int:
        return self.num_heads

    def states(self, d_model: int) -> tuple[MatrixSpec, ...]:
        return (MatrixSpec(self.num_heads, 1, d_model // self.num_heads),)

    module_class = classmethod(lambda cls: GatedEmaModule)
    deployed_class = classmethod(lambda cls: DeployedGatedEma)
