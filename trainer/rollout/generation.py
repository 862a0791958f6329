"""Text from a student of ours: prompts in batches, answers as if each had been alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from foundation.errors import InvalidConfig
from search_space.modeling.model import HilnasForCausalLM
from trainer.data.chat import STOP, token_ids
from trainer.rollout.decoding import Completion, Decoding, complete
from trainer.rollout.prefix_cache.cache import PrefixCache


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
    decoding = Decoding(max_new_tokens, temperature, ends_of(tokenizer, stop))
    return [texts_of(tokenizer, row) for row in sample(model, ids, decoding, num_samples, seed, batch)]


def sample(
    model: HilnasForCausalLM, rows: Sequence[Sequence[int]], decoding: Decoding, num_samples: int = 1, seed: int = 0,
    batch: int = 32, prefixes: PrefixCache | None = None,
) -> list[list[Completion]]:  # fmt: skip
    """``num_samples`` continuations of each row of tokens, as ``generate`` draws them; ``prefixes`` remembers what was
    read for later calls."""
    found: list[list[Completion]] = [[] for _ in rows]
    was_training = model.training
    model.eval()
    with torch.inference_mode(), few_threads(model, batch):
        for members in batches([len(row) for row in rows], max(1, batch // num_samples)):
            uniform = uniform_numbers(seed, members, num_samples, decoding.max_new_tokens)
            made = complete(model, [rows[i] for i in members], uniform, decoding, prefixes)
            for at, index in enumerate(members):
                found[index] = made[at * num_samples : (at + 1) * num_samples]
    model.train(was_training)
    return found


def texts_of(tokenizer: Any, completions: Sequence[Completion]) -> list[str]:
    said = [completion.said for completion in completions]
    return list(tokenizer.batch_decode(said, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def encoded(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of prompts, or of texts without markers, with nothing added at the ends."""
    return [token_ids(tokenizer, text) for text in texts]


def batches(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Indices, longest first, so that rows of one batch need little padding and memory runs out at once or never."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    return (order[at : at + size] for at in range(0, len(order), size))


def uniform_numbers(seed: int, members: Sequence[int], num_samples: int, count: int) -> NDArray[np.float64]:
    rows = [(seed, index, sample) for index in members for sample in range(num_samples)]
    return np.stack([np.random.default_rng(row).random(count) for row in rows])


def ends_of(tokenizer: Any, stop: str = STOP) -> frozenset[int]:
    """The token of ``stop`` and that of a document's end."""
    ids = tokenizer.encode(stop, add_special_tokens=False)
    if len(ids) != 1:
        raise InvalidConfig(f"stop {stop!r} is {len(ids)} tokens of this tokenizer; give text that is one token")
    return frozenset(ids) | ({tokenizer.eos_token_id} - {None})


@contextmanager
def few_threads(model: HilnasForCausalLM, batch: int) -> Iterator[None]:
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
