"""Which examples a model gets right without being told: greedy decoding gives the stored answer exactly when every
token of it is the likeliest one, which a single forward pass shows.

Shapes: B examples, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import nn

from trainer.chat import Encoded, encode, prompt_of
from trainer.generation import batches
from trainer.tasks.base import Example


@dataclass(frozen=True)
class Success:
    """Of each example: whether the whole answer is likeliest, and the mean log-probability of its tokens in nats."""

    right: NDArray[np.bool_]
    logprob: NDArray[np.float64]


@torch.inference_mode()
def success(
    model: nn.Module, tokenizer: Tokenizer, examples: Sequence[Example], end: int, batch: int = 32
) -> Success:
    encoded = [encode(tokenizer, prompt_of(e.prompt, e.system), e.answer, end) for e in examples]
    right, logprob = np.zeros(len(examples), bool), np.zeros(len(examples))
    was_training = model.training
    model.eval()
    for members in batches([len(row.ids) for row in encoded], batch):
        for index, (exact, mean) in zip(members, _judged(model, [encoded[i] for i in members]), strict=True):
            right[index], logprob[index] = exact, mean
    model.train(was_training)
    return Success(right, logprob)


def _judged(model: nn.Module, rows: list[Encoded]) -> list[tuple[bool, float]]:
    longest = max(len(row.ids) for row in rows)
    # padded at the end, which a causal model never reads
    ids_BT = torch.tensor([row.ids + [0] * (longest - len(row.ids)) for row in rows])
    learned_BT = torch.tensor([row.learned + [False] * (longest - len(row.ids)) for row in rows])
    logits_BTV = model(ids_BT, use_cache=False).logits[:, :-1].float()
    wanted_BT, asked_BT = ids_BT[:, 1:], learned_BT[:, 1:]
    exact_BT = (logits_BTV.argmax(-1) == wanted_BT) | ~asked_BT
    logprob_BT = logits_BTV.log_softmax(-1).gather(2, wanted_BT[..., None])[..., 0].where(asked_BT, 0.0)
    means = logprob_BT.sum(1) / asked_BT.sum(1)
    return list(zip(exact_BT.all(1).tolist(), means.tolist(), strict=True))
