"""Which examples a model gets right without help: greedy decoding gives the stored answer exactly when every
token of it is the likeliest one, which a single forward pass shows.

Shapes: B examples, T tokens, D model width, N tokens of answers, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from search_space.modeling.model import HilnasForCausalLM
from trainer.data.chat import Encoded, encode
from trainer.rollout.generation import batches
from trainer.tasks.base import Example


@dataclass(frozen=True)
class Success:
    """Of each example: whether the whole answer is likeliest, and the mean log-probability of its tokens in nats."""

    right: NDArray[np.bool_]
    logprob: NDArray[np.float64]


@torch.inference_mode()
def success(
    model: HilnasForCausalLM, tokenizer: Tokenizer, examples: Sequence[Example], end: int, batch: int = 32
) -> Success:
    encoded = [encode(tokenizer, e.conversation, e.answer, end) for e in examples]
    right, logprob = np.zeros(len(examples), bool), np.zeros(len(examples))
    was_training = model.training
    model.eval()
    for members in batches([len(row.ids) for row in encoded], batch):
        for index, (exact, mean) in zip(members, _judged(model, [encoded[i] for i in members]), strict=True):
            right[index], logprob[index] = exact, mean
    model.train(was_training)
    return Success(right, logprob)


def _judged(model: HilnasForCausalLM, rows: list[Encoded]) -> list[tuple[bool, float]]:
    longest = max(len(row.ids) for row in rows)
    device = model.lm_head.weight.device
    # padded at the end, which a causal model never reads
    ids_BT = torch.tensor([row.ids + [0] * (longest - len(row.ids)) for row in rows], device=device)
    learned_BT = torch.tensor([row.learned + [False] * (longest - len(row.ids)) for row in rows], device=device)
    hidden_BTD = model.model(ids_BT)
    wanted_BT, asked_BT = ids_BT[:, 1:], learned_BT[:, 1:]
    logits_NV = model.lm_head(hidden_BTD[:, :-1][asked_BT]).float()  # the head costs more than a layer: answers only
    wanted_N = wanted_BT[asked_BT]
    row_N = asked_BT.nonzero()[:, 0]
    logprob_N = logits_NV.log_softmax(-1).gather(1, wanted_N[:, None])[:, 0]
    wrong_B = torch.zeros(len(rows), device=device).index_add_(0, row_N, (logits_NV.argmax(-1) != wanted_N).float())
    mean_B = torch.zeros(len(rows), device=device).index_add_(0, row_N, logprob_N) / asked_BT.sum(1)
    return list(zip((wrong_B == 0).tolist(), mean_B.tolist(), strict=True))
