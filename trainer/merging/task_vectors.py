"""The steps that methods over task vectors share: trimming, dropping, sign election.

Shapes: N models; a task vector has the shape of its tensor, ``deltas`` is [N, ...].
"""

from __future__ import annotations

import torch
from torch import Tensor


def weighted_sum(deltas: Tensor, weights: Tensor) -> Tensor:
    """sum_i w_i tau_i."""
    return torch.tensordot(weights, deltas, dims=1)


def elected_mean(deltas: Tensor, weights: Tensor, weighted_election: bool = False) -> Tensor:
    """sum_i w_i tau_i M_i / sum_i w_i M_i, with M_i = [sign tau_i = gamma] and gamma = sign(sum_i tau_i) elected per
    element (TIES-Merging, arXiv 2306.01708, section 3.2; weights as in the LFM2 report, appendix B).

    An element on which nobody agrees with gamma (all zero, or a draw) stays zero. ``weighted_election`` elects by
    sum_i w_i tau_i instead, as mergekit and peft do; the two differ only when weights do.
    """
    weights = weights.view(-1, *[1] * (deltas.dim() - 1))
    votes = (deltas * weights if weighted_election else deltas).sum(0)
    agrees = (deltas.sign() == votes.sign()) & (deltas != 0)
    total = (weights * agrees).sum(0)
    return (deltas * weights * agrees).sum(0) / torch.where(total == 0, 1, total)


def trim(delta: Tensor, density: float) -> Tensor:
    """Keeps the ``density`` share of largest magnitude, at least one element; of equal magnitudes the first."""
    if density >= 1 or delta.numel() == 0:
        return delta
    magnitude, count = delta.abs().flatten(), max(1, int(density * delta.numel()))
    # a selection, not a sort: a third of the time
    smallest = magnitude.kthvalue(magnitude.numel() - count + 1).values
    kept = magnitude > smallest
    kept[(magnitude == smallest).nonzero()[: count - int(kept.sum())]] = True
    return torch.where(kept.view_as(delta), delta, 0)


def drop(delta: Tensor, keep: Tensor | float, uniform: Tensor, rescale: bool) -> Tensor:
    """Keeps each element with probability ``keep``; ``rescale`` divides by it, so that the mean stays."""
    return (delta / keep if rescale else delta) * (uniform < keep)


def keep_probability(delta: Tensor, density: float, epsilon: float) -> Tensor:
    """1 - p_i of MagPrune (DELLA, arXiv 2406.11617, section 3.1): p_i = p_min + (epsilon / n) r_i, p_min = p -
    epsilon / 2, p = 1 - density.

    r_i runs from 0 (largest magnitude) to n - 1 within the inputs of one output unit: a row of a matrix, the taps of
    one channel of a depthwise convolution [C, 1, K], a whole vector.
    """
    rows = delta.abs().reshape(delta.shape[0] if delta.dim() > 1 else 1, -1)
    order = rows.argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(rows)
    rank.scatter_(1, order, torch.arange(rows.shape[1], dtype=rows.dtype).expand_as(rows))
    dropped = (1 - density) - epsilon / 2 + epsilon / max(1, rows.shape[1]) * rank
    return (1 - dropped).view_as(delta)
