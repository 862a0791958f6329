"""A batch of prompts continued token by token with the model's cache: tokens and how likely each was.

Shapes: B rows of a batch, T tokens of the longest prompt, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_space.modeling.cache import HilnasCache
from search_space.modeling.model import HilnasForCausalLM
from trainer.rollout.prefix_cache.cache import PrefixCache


@dataclass(frozen=True)
class Decoding:
    """How one batch is continued. ``temperature`` 0 takes the likeliest token."""

    max_new_tokens: int
    temperature: float
    ends: frozenset[int]


@dataclass(frozen=True)
class Completion:
    """``ids`` with the token that ended it, if it ``finished`` within its budget; ``logprobs`` of each under the
    distribution that it was drawn from (temperature 1 where the likeliest was taken)."""

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finished: bool = False

    @property
    def said(self) -> list[int]:
        """Without the end."""
        return self.ids[:-1] if self.finished else self.ids


def complete(
    model: HilnasForCausalLM,
    rows: Sequence[Sequence[int]],
    uniform: NDArray[np.float64],
    decoding: Decoding,
    prefixes: PrefixCache | None = None,
) -> list[Completion]:
    """Continues ``len(uniform)`` rows, a multiple of ``len(rows)``: each prompt is read once and continued several
    times. ``uniform`` [rows, max_new_tokens] decides what is drawn. With ``prefixes`` what an earlier call read of the
    same tokens is not read again."""
    logits_BV, cache, mask_BT = prefixes.read(model, rows) if prefixes is not None else _read(model, rows)
    tokens: list[list[int]] = [[] for _ in uniform]
    logprobs: list[list[float]] = [[] for _ in uniform]
    finished = [False] * len(uniform)
    open_rows = list(range(len(uniform)))
    num_samples = len(uniform) // len(rows)
    if num_samples > 1:
        kept = torch.arange(len(rows), device=mask_BT.device).repeat_interleave(num_samples)
        cache.reorder_cache(kept)
        logits_BV, mask_BT = logits_BV[kept], mask_BT[kept]
    for step in range(decoding.max_new_tokens):
        chosen, likely = _choose(logits_BV, uniform[open_rows, step], decoding.temperature)
        for row, token, logprob in zip(open_rows, chosen, likely, strict=True):
            tokens[row].append(token)
            logprobs[row].append(logprob)
            finished[row] = token in decoding.ends
        last = step + 1 == decoding.max_new_tokens
        going = [i for i, row in enumerate(open_rows) if not (finished[row] or last)]
        if prefixes is not None and prefixes.keep_completions:
            for i in sorted(set(range(len(open_rows))) - set(going)):
                prefixes.keep([*rows[open_rows[i] // num_samples], *tokens[open_rows[i]][:-1]], cache, i)
        if not going:
            break
        if len(going) < len(open_rows):
            kept = torch.tensor(going, device=mask_BT.device)
            cache.reorder_cache(kept)
            mask_BT, open_rows = mask_BT[kept], [open_rows[i] for i in going]
        mask_BT = torch.nn.functional.pad(mask_BT, (0, 1), value=1)
        next_B1 = torch.tensor([[chosen[i]] for i in going], device=mask_BT.device)
        logits_BV = model(next_B1, attention_mask=mask_BT, past_key_values=cache, use_cache=True).logits[:, -1]
    return [Completion(*parts) for parts in zip(tokens, logprobs, finished, strict=True)]


def _read(model: HilnasForCausalLM, rows: Sequence[Sequence[int]]) -> tuple[Tensor, HilnasCache, Tensor]:
    """Logits [B, V] behind every prompt, the cache that holds them, and the mask [B, T] of its padding."""
    ids_BT, mask_BT = left_padded(rows, next(model.parameters()).device)
    cache = HilnasCache()
    logits = model(ids_BT, attention_mask=mask_BT, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
    return logits[:, -1], cache, mask_BT


def _choose(logits_BV: Tensor, uniform_B: NDArray[np.float64], temperature: float) -> tuple[list[int], list[float]]:
    """Tokens and their log-probabilities. Sampling inverts the distribution function at one uniform number per row."""
    logprobs_BV = (logits_BV.double() / (temperature or 1.0)).log_softmax(-1)
    if temperature == 0:
        chosen_B = logits_BV.argmax(-1)
    else:
        cumulated_BV = logprobs_BV.exp().cumsum(-1)
        wanted_B1 = torch.from_numpy(uniform_B).to(cumulated_BV)[:, None] * cumulated_BV[:, -1:]
        chosen_B = torch.searchsorted(cumulated_BV, wanted_B1, right=True)[:, 0].clamp(max=logits_BV.shape[1] - 1)
    return chosen_B.tolist(), logprobs_BV.gather(1, chosen_B[:, None])[:, 0].tolist()


def left_padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and mask, both [B, T]."""
    width = max(len(row) for row in rows)
    ids_BT = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows], device=device)
    mask_BT = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids_BT, mask_BT
