"""Log-probabilities of the tokens that a model said, for losses over answers.

Shapes: B rows, T tokens, N tokens that count, in the order of rows and positions; D model width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from search_space.modeling.model import HilnasForCausalLM


@dataclass(frozen=True)
class MaskedRows:
    """Rows padded at the end, which a causal model never reads; ``mask_BT`` marks the tokens that count."""

    ids_BT: Tensor
    mask_BT: Tensor

    @property
    def rows_N(self) -> Tensor:
        """The row of each token that counts."""
        return self.mask_BT[:, 1:].nonzero()[:, 0]

    def sums(self, values_N: Tensor) -> Tensor:
        """Of each row [B]."""
        return torch.zeros(len(self.ids_BT), device=values_N.device, dtype=values_N.dtype).index_add(
            0, self.rows_N, values_N
        )

    @property
    def lengths_B(self) -> Tensor:
        return self.mask_BT[:, 1:].sum(1)


def padded(ids: Sequence[Sequence[int]], said: Sequence[Sequence[bool]], device: torch.device) -> MaskedRows:
    width = max(map(len, ids))
    ids_BT = torch.tensor([[*row, *[0] * (width - len(row))] for row in ids], device=device)
    mask_BT = torch.tensor([[*row, *[False] * (width - len(row))] for row in said], device=device)
    return MaskedRows(ids_BT, mask_BT)


def logprobs_of(model: HilnasForCausalLM, rows: MaskedRows, temperature: float = 1.0, autocast: bool = False) -> Tensor:
    """[N] in nats of the distribution at ``temperature``; gradients flow where they are recorded."""
    asked_BT = rows.mask_BT[:, 1:]
    context = torch.autocast(rows.ids_BT.device.type, torch.bfloat16) if autocast else nullcontext()
    with context:
        hidden_BTD = model.model(rows.ids_BT)
        logits_NV = model.lm_head(hidden_BTD[:, :-1][asked_BT])  # the head costs more than a layer: these tokens only
    logprobs_NV = (logits_NV.float() / temperature).log_softmax(-1)
    return logprobs_NV.gather(1, rows.ids_BT[:, 1:][asked_BT][:, None])[:, 0]
