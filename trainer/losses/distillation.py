"""Decoupled, tempered top-K distillation balanced with hard-label cross-entropy (LFM2 technical report, arXiv
2511.23404, section 3.3 and appendix A).

Shapes: B sequences, T positions, N counted positions, V entries of the vocabulary, K stored of the teacher's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from foundation.errors import InvalidConfig
from trainer.data.packing import IGNORE

LARGE = 1e4  # log odds that are a certainty in any precision


@dataclass(frozen=True)
class DistillationLoss:
    """Means per counted position, in nats. ``loss`` is what to minimize; the others are its parts, for curves."""

    loss: Tensor
    cross_entropy: Tensor
    mass: Tensor
    conditional: Tensor
    num_tokens: int


@dataclass(frozen=True)
class DistillationObjective:
    """(1 - kd_weight) CE + kd_weight L_DTK, with S the student, P the teacher, A the teacher's top K and P(A) its mass:

    L_DTK = KL(Bern(P(A)) || Bern(S(A))) + P(A) tau^2 KL(P_tau(. | A) || S_tau(. | A)), p_tau ~ p^(1 / tau).

    The first term (``mass``) is not tempered, the second (``conditional``) is. At tau = 1 the sum is a lower bound of
    KL(P || S), reached at K = V: it lacks only what happens among the entries outside A. ``temperature`` tau and
    ``kd_weight`` were never published: both defaults are ours.
    """

    temperature: float = 1.0
    kd_weight: float = 0.5

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise InvalidConfig(f"temperature {self.temperature} must be positive; 1 leaves distributions as they are")
        if not 0 <= self.kd_weight <= 1:
            raise InvalidConfig(f"kd_weight {self.kd_weight} is not in [0, 1], from labels alone to the teacher alone")

    def __call__(
        self,
        logits_BTV: Tensor,
        teacher_logprobs_BTK: Tensor,
        teacher_ids_BTK: Tensor,
        labels_BT: Tensor,
        num_tokens: int | None = None,
    ) -> DistillationLoss:
        """``labels_BT[b, t]`` is the token that ``logits_BTV[b, t]`` predicts, or IGNORE: nothing is read or sent back
        there. ``teacher_logprobs_BTK`` are over the whole vocabulary, not tempered.

        Sums are divided by ``num_tokens``, by default the counted positions at hand; give the total when a batch is
        spread over processes or accumulated. Arithmetic is float32, or float64 for float64 logits.
        """
        logits_NV, logprobs_NK, ids_NK, labels_N = counted(
            labels_BT != IGNORE, logits_BTV, teacher_logprobs_BTK, teacher_ids_BTK, labels_BT
        )
        logits_NK, label_logit_N, outside_N = _Split.apply(logits_NV, ids_NK, labels_N)
        logprobs_NK, inside_N = logprobs_NK.to(logits_NK.dtype), logits_NK.logsumexp(1)
        parts = (
            torch.logaddexp(inside_N, outside_N) - label_logit_N,
            mass_divergence(logprobs_NK, inside_N, outside_N),
            conditional_divergence(logprobs_NK, logits_NK, self.temperature),
        )
        total = num_tokens if num_tokens is not None else max(1, len(logits_NV))
        cross_entropy, mass, conditional = (part_N.sum() / total for part_N in parts)
        loss = (1 - self.kd_weight) * cross_entropy + self.kd_weight * (mass + conditional)
        return DistillationLoss(loss, cross_entropy, mass, conditional, len(logits_NV))


def counted(where_BT: Tensor, *tensors: Tensor) -> list[Tensor]:
    """The positions [N, ...] of each [B, T, ...]. Selected before the arithmetic: a masked NaN would come back through
    the gradient of a masked sum."""
    if where_BT.all():  # as in packed pretraining: spares a copy of the logits
        return [tensor.flatten(0, 1) for tensor in tensors]
    return [tensor[where_BT] for tensor in tensors]


def mass_divergence(teacher_logprobs_NK: Tensor, inside_N: Tensor, outside_N: Tensor) -> Tensor:
    """KL(Bern(P(A)) || Bern(S(A))) [N], the student given by its log-sum-exps inside and outside A (-inf when A is the
    whole vocabulary: there is nothing to diverge then).

    S(A) is a sigmoid of their difference, so neither log S(A) nor log(1 - S(A)) cancels, however full or empty A is.
    """
    # a mass stored with few bits may exceed 1
    log_mass_N = teacher_logprobs_NK.logsumexp(1).clamp(max=0)
    rest_N = -torch.expm1(log_mass_N)
    whole_N = outside_N == -torch.inf
    log_mass_N, rest_N = log_mass_N.masked_fill(whole_N, 0), rest_N.masked_fill(whole_N, 0)
    odds_N = (inside_N - outside_N).masked_fill(whole_N, LARGE)
    kept_N = log_mass_N.exp() * (log_mass_N - logsigmoid(odds_N))
    return kept_N + torch.xlogy(rest_N, rest_N) - rest_N * logsigmoid(-odds_N)


def conditional_divergence(teacher_logprobs_NK: Tensor, logits_NK: Tensor, temperature: float) -> Tensor:
    """P(A) tau^2 KL(P_tau(. | A) || S_tau(. | A)) [N]; conditioning on A is a softmax over its K entries."""
    teacher_NK = (teacher_logprobs_NK / temperature).log_softmax(1)
    student_NK = (logits_NK / temperature).log_softmax(1)
    divergence_N = (teacher_NK.exp() * (teacher_NK - student_NK)).sum(1)
    mass_N = teacher_logprobs_NK.logsumexp(1).clamp(max=0).exp()
    return mass_N * temperature**2 * divergence_N


def teacher_top_k(logits_BTV: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest log-probabilities [B, T, K] in float32, and their ids."""
    logits_BTV = logits_BTV.float()
    values_BTK, ids_BTK = logits_BTV.topk(k, dim=-1)
    return values_BTK - logits_BTV.logsumexp(-1, keepdim=True), ids_BTK


class _Split(torch.autograd.Function):
    """Logits [N, V] -> those in A [N, K], the label's [N], log-sum-exp [N] of those outside A.

    By hand because autograd would make a tensor of [N, V] for each of the three and add them up.
    """

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, ids_NK: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        labels_N1, dtype = labels_N.unsqueeze(1), torch.promote_types(logits_NV.dtype, torch.float32)
        inside_NK, label_N = logits_NV.gather(1, ids_NK).to(dtype), logits_NV.gather(1, labels_N1).squeeze(1).to(dtype)
        others_NV = logits_NV.to(dtype, copy=True).scatter_(1, ids_NK, -torch.inf)
        outside_N = others_NV.logsumexp(1)
        ctx.save_for_backward(others_NV, outside_N, ids_NK, labels_N1)
        ctx.dtype = logits_NV.dtype
        return inside_NK, label_N, outside_N

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        others_NV, outside_N, ids_NK, labels_N1 = ctx.saved_tensors
        of_inside_NK, of_label_N, of_outside_N = gradients
        finite_N1 = outside_N.masked_fill(outside_N == -torch.inf, 0).unsqueeze(1)
        grad_NV = (others_NV - finite_N1).exp_().mul_(of_outside_N.unsqueeze(1))
        grad_NV.scatter_add_(1, ids_NK, of_inside_NK).scatter_add_(1, labels_N1, of_label_N.unsqueeze(1))
        return grad_NV.to(ctx.dtype), None, None
