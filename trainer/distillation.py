"""Decoupled, tempered top-K distillation balanced with hard-label cross-entropy (LFM2 technical report, arXiv
2511.23404, section 3.3 and appendix A).

Shapes: B sequences, T positions, N counted positions, V entries of the vocabulary, K stored of the teacher's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from nas.contracts.errors import InvalidConfig
from trainer.topk_cache import CacheBroken, CacheSpec, TopKCache

IGNORE = -100  # label of a position that is not counted, as in torch and transformers


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
        counted_BT = labels_BT != IGNORE
        # selected before the arithmetic: a masked NaN would come back through the gradient of a masked sum
        logits_NV = logits_BTV[counted_BT]
        logits_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
        logprobs_NK = teacher_logprobs_BTK[counted_BT].to(logits_NV.dtype)
        ids_NK, labels_N1 = teacher_ids_BTK[counted_BT], labels_BT[counted_BT].unsqueeze(1)
        logits_NK = logits_NV.gather(1, ids_NK)
        inside_N, outside_N = logits_NK.logsumexp(1), _logsumexp_outside(logits_NV, ids_NK)
        normalizer_N = torch.logaddexp(inside_N, outside_N) if outside_N is not None else inside_N
        parts = (
            normalizer_N - logits_NV.gather(1, labels_N1).squeeze(1),
            mass_divergence(logprobs_NK, inside_N, outside_N),
            conditional_divergence(logprobs_NK, logits_NK, self.temperature),
        )
        total = num_tokens if num_tokens is not None else max(1, len(logits_NV))
        cross_entropy, mass, conditional = (part_N.sum() / total for part_N in parts)
        loss = (1 - self.kd_weight) * cross_entropy + self.kd_weight * (mass + conditional)
        return DistillationLoss(loss, cross_entropy, mass, conditional, len(logits_NV))


def mass_divergence(teacher_logprobs_NK: Tensor, inside_N: Tensor, outside_N: Tensor | None) -> Tensor:
    """KL(Bern(P(A)) || Bern(S(A))) [N], the student given by its log-sum-exps inside and outside A.

    S(A) is a sigmoid of their difference, so neither log S(A) nor log(1 - S(A)) cancels, however full or empty A is.
    """
    # a mass stored with few bits may exceed 1
    log_mass_N = teacher_logprobs_NK.logsumexp(1).clamp(max=0)
    if outside_N is None:
        return torch.zeros_like(inside_N)
    rest_N = -torch.expm1(log_mass_N)
    odds_N = inside_N - outside_N
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


def _logsumexp_outside(logits_NV: Tensor, ids_NK: Tensor) -> Tensor | None:
    """Log-sum-exp [N] of the entries that are not in A; None when A is everything."""
    if ids_NK.shape[1] == logits_NV.shape[1]:
        return None
    return logits_NV.scatter(1, ids_NK, -torch.inf).logsumexp(1)


__all__ = [
    "IGNORE", "CacheBroken", "CacheSpec", "DistillationLoss", "DistillationObjective", "TopKCache",
    "conditional_divergence", "mass_divergence", "teacher_top_k",
]  # fmt: skip
