"""Text from a student of ours: prompts in batches with the model's cache, answers as if each had been alone.

Shapes: B rows of a batch, T tokens of the longest prompt, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.contracts.errors import InvalidConfig
from search_space.modeling.cache import HilnasCache
from search_space.modeling.model import HilnasForCausalLM
from trainer.chat import STOP


@dataclass(frozen=True)
class Decoding:
    """How one batch is continued. ``temperature`` 0 takes the likeliest token."""

    max_new_tokens: int
    temperature: float
    ends: frozenset[int]


def generate(
    model: HilnasForCausalLM,
    tokenizer: Any,
    prompts: Sequence[str],
    max_new_tokens: int,
    temperature: float = 0.0,
    num_samples: int = 1,
    seed: int = 0,
    batch: int = 32,
    stop: str = STOP,
    max_prompt: int = 8192,
) -> list[list[str]]:
    """``num_samples`` answers per prompt, without ``stop``. What a row samples depends on ``seed`` and its place in
    ``prompts`` alone, not on ``batch``. Raises InvalidConfig for a prompt that is empty or over ``max_prompt``."""
    ids = encoded(tokenizer, prompts)
    _check(ids, max_prompt)
    decoding = Decoding(max_new_tokens, temperature, _ends(tokenizer, stop))
    answers: list[list[str]] = [[] for _ in prompts]
    was_training = model.training
    model.eval()
    with torch.inference_mode(), _threads(model, batch):
        for members in batches([len(row) for row in ids], max(1, batch // num_samples)):
            uniform = _uniform(seed, members, num_samples, max_new_tokens)
            tokens = _continue(model, [ids[i] for i in members], uniform, decoding)
            texts = tokenizer.batch_decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            for row, index in enumerate(members):
                answers[index] = texts[row * num_samples : (row + 1) * num_samples]
    model.train(was_training)
    return answers


def encoded(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids with nothing added at the ends."""
    return list(tokenizer(list(texts), add_special_tokens=False)["input_ids"]) if texts else []


def batches(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Indices, longest first, so that rows of one batch need little padding and memory runs out at once or never."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    return (order[at : at + size] for at in range(0, len(order), size))


def left_padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and mask, both [B, T]."""
    width = max(len(row) for row in rows)
    ids_BT = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows], device=device)
    mask_BT = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids_BT, mask_BT


def _continue(
    model: HilnasForCausalLM, rows: Sequence[Sequence[int]], uniform: NDArray[np.float64], decoding: Decoding
) -> list[list[int]]:
    """New tokens of ``len(uniform)`` rows, which is a multiple of ``len(rows)``: each prompt is read once."""
    device = next(model.parameters()).device
    ids_BT, mask_BT = left_padded(rows, device)
    cache = HilnasCache()
    logits_BV = model(ids_BT, attention_mask=mask_BT, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
    logits_BV = logits_BV[:, -1]
    tokens: list[list[int]] = [[] for _ in uniform]
    open_rows = list(range(len(uniform)))
    if len(uniform) > len(rows):
        kept = torch.arange(len(rows), device=device).repeat_interleave(len(uniform) // len(rows))
        cache.reorder_cache(kept)
        logits_BV, mask_BT = logits_BV[kept], mask_BT[kept]
    for step in range(decoding.max_new_tokens):
        chosen = _choose(logits_BV, uniform[open_rows, step], decoding.temperature)
        going = [i for i, token in enumerate(chosen) if token not in decoding.ends]
        for i in going:
            tokens[open_rows[i]].append(chosen[i])
        if not going or step + 1 == decoding.max_new_tokens:
            break
        if len(going) < len(open_rows):
            kept = torch.tensor(going, device=device)
            cache.reorder_cache(kept)
            mask_BT, open_rows = mask_BT[kept], [open_rows[i] for i in going]
        mask_BT = torch.nn.functional.pad(mask_BT, (0, 1), value=1)
        next_B1 = torch.tensor([[chosen[i]] for i in going], device=device)
        logits_BV = model(next_B1, attention_mask=mask_BT, past_key_values=cache, use_cache=True).logits[:, -1]
    return tokens


def _choose(logits_BV: Tensor, uniform_B: NDArray[np.float64], temperature: float) -> list[int]:
    """Sampling inverts the distribution function at one uniform number per row."""
    if temperature == 0:
        return logits_BV.argmax(-1).tolist()
    cumulated_BV = (logits_BV.double() / temperature).softmax(-1).cumsum(-1)
    wanted_B1 = torch.from_numpy(uniform_B).to(cumulated_BV)[:, None] * cumulated_BV[:, -1:]
    return torch.searchsorted(cumulated_BV, wanted_B1, right=True)[:, 0].clamp(max=logits_BV.shape[1] - 1).tolist()


def _uniform(seed: int, members: Sequence[int], num_samples: int, count: int) -> NDArray[np.float64]:
    rows = [(seed, index, sample) for index in members for sample in range(num_samples)]
    return np.stack([np.random.default_rng(row).random(count) for row in rows])


def _ends(tokenizer: Any, stop: str) -> frozenset[int]:
    """The token of ``stop`` and that of a document's end."""
    ids = tokenizer.encode(stop, add_special_tokens=False)
    if len(ids) != 1:
        raise InvalidConfig(f"stop {stop!r} is {len(ids)} tokens of this tokenizer; give text that is one token")
    return frozenset(ids) | ({tokenizer.eos_token_id} - {None})


@contextmanager
def _threads(model: HilnasForCausalLM, batch: int) -> Iterator[None]:
    """One more per half a billion multiplications of a step: threads of small steps wait for each other (6.6 M
    parameters, 32 rows, two busy cores: 23 ms a step with one thread, 253 with two)."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(before, model.num_parameters() * batch // 500_000_000)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check(ids: Sequence[Sequence[int]], max_prompt: int) -> None:
    for index, row in enumerate(ids):
        if not 0 < len(row) <= max_prompt:
            raise InvalidConfig(f"prompt {index} has {len(row)} tokens; 1 to max_prompt {max_prompt} work")
