"""The loss of one update: a clipped surrogate over tokens, weighted by truncated importance (no critic, no reference).

Shapes: B episodes, N tokens that the model said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from search_space.modeling.model import HilnasForCausalLM
from trainer.rl.config import RlConfig
from trainer.rl.groups import Group
from trainer.rollout.episodes import Episode
from trainer.rollout.logprobs import MaskedRows, logprobs_of, padded


@dataclass(frozen=True)
class Batch:
    """``sampled_N`` are the sampler's log-probabilities, ``advantage_N`` each token's episode's; ``counts_N`` is False
    for tokens of episodes that did not end, where these are masked."""

    rows: MaskedRows
    sampled_N: Tensor
    advantage_N: Tensor
    counts_N: Tensor

    @property
    def num_tokens(self) -> int:
        return int(self.counts_N.sum())


def batch_of(groups: Sequence[Group], levers: RlConfig, device: torch.device) -> Batch:
    episodes: list[Episode] = [episode for group in groups for episode in group.episodes]
    advantages = [value for group in groups for value in group.advantages(levers.normalize_advantages)]
    rows = padded([episode.ids for episode in episodes], [episode.generated for episode in episodes], device)
    counts_B = torch.tensor([episode.finished or not levers.mask_overlong for episode in episodes], device=device)
    sampled_N = torch.tensor([value for episode in episodes for value in episode.logprobs], device=device)
    advantage_B = torch.tensor(advantages, dtype=torch.float32, device=device)
    return Batch(rows, sampled_N, advantage_B[rows.rows_N], counts_B[rows.rows_N])


@dataclass(frozen=True)
class Surrogate:
    """``loss_N`` of every token; ``clipped`` and ``importance`` are means for the curve."""

    loss_N: Tensor
    clipped: float
    importance: float


def surrogate(new_N: Tensor, old_N: Tensor, batch: Batch, levers: RlConfig) -> Surrogate:
    """-min(r A, clip(r) A) w, with r = new / old of the trainer and w = min(old / sampled, cap), 0 for tokens that do
    not count."""
    ratio_N = (new_N - old_N).exp()
    clipped_N = ratio_N.clamp(1 - levers.clip_low, 1 + levers.clip_high)
    gain_N = torch.minimum(ratio_N * batch.advantage_N, clipped_N * batch.advantage_N)
    weight_N = torch.ones_like(old_N)
    if levers.importance_cap:
        weight_N = (old_N - batch.sampled_N).exp().clamp(max=levers.importance_cap)
    clipped = (ratio_N * batch.advantage_N > clipped_N * batch.advantage_N).float().mean()
    return Surrogate(-gain_N * weight_N * batch.counts_N, float(clipped), float(weight_N.mean()))


def read(model: HilnasForCausalLM, batch: Batch, temperature: float, autocast: bool) -> Tensor:
    """The trainer's log-probabilities [N]."""
    return logprobs_of(model, batch.rows, temperature, autocast)
