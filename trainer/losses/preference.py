"""The family of length-normalized preference losses of LFM2 (arXiv 2511.23404, section 4.3).

``L = -mean(omega * f(Delta - margin) + lambda * delta)`` over pairs, with ``r = beta * log(policy / reference)``,
``Delta = r(chosen) / |chosen| - r(rejected) / |rejected|`` and ``delta = sigmoid(r(chosen) / |chosen|) -
sigmoid(r(rejected) / |rejected|)``; f is log sigmoid. Shapes: P pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from foundation.registry import Registry


@dataclass(frozen=True)
class PreferenceLoss:
    """``relative`` is omega, ``absolute`` lambda."""

    relative: float
    absolute: float
    margin: float = 0.0
    title: str = ""

    def __call__(self, chosen_P: Tensor, rejected_P: Tensor, beta: float) -> Tensor:
        """Loss of each pair [P] from log-ratios per token (log policy - log reference, over the length)."""
        better, worse = beta * chosen_P, beta * rejected_P
        gained = logsigmoid(better - worse - self.margin)
        return -(self.relative * gained + self.absolute * (torch.sigmoid(better) - torch.sigmoid(worse)))


# log-ratios per token of the chosen and the rejected answers, both [P], and beta -> the loss of each pair [P]
Loss = Callable[[Tensor, Tensor, float], Tensor]
PREFERENCE_LOSSES: Registry[Loss] = Registry("preference loss", "preference losses")
PREFERENCE_LOSSES.add("ln_dpo", PreferenceLoss(relative=1.0, absolute=0.0, title="length-normalized DPO"))
PREFERENCE_LOSSES.add("ln_apo_zero", PreferenceLoss(relative=0.0, absolute=1.0, title="length-normalized APO-zero"))
# with the report's example weights
PREFERENCE_LOSSES.add("joint", PreferenceLoss(1.0, 0.2, margin=0.1, title="both, with a margin (LFM2)"))
