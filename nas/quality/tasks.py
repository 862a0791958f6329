"""The synthetic tasks of mechanistic architecture design (Poli et al. 2024, arXiv 2403.17844), as seeded batch makers.

Every task yields ``(tokens, targets)`` of shape [rows, length]; targets are IGNORE where nothing is scored. Sizes
are ours: small enough that a proxy learns in hundreds of steps, large enough that a short convolution alone cannot
solve them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

IGNORE = -100
NUM_SYMBOLS = 32
KEYS, VALUES = (0, 16), (16, 32)  # half-open ranges of token ids
NOISE, BLANK, INSERT, COMPRESS = range(NUM_SYMBOLS, NUM_SYMBOLS + 4)
FIRST_TASK_TOKEN = NUM_SYMBOLS + 4
VOCAB_SIZE = 64
CHANCE = 1 / (VALUES[1] - VALUES[0])  # of guessing a value, in every task
LENGTH = 64


@dataclass(frozen=True)
class Batch:
    """``tokens`` and ``targets`` [rows, length]. ``reconstruct`` is set for compression: the symbols that a decoder
    must read back from the hidden state at the last token."""

    tokens: Tensor
    targets: Tensor
    reconstruct: Tensor | None = None


def in_context_recall(rows: int, generator: Generator) -> Batch:
    """key value key value ...: whenever a key is repeated, its value is the target."""
    keys, values = _pairs(rows, LENGTH // 2, generator)
    tokens = torch.stack((keys, values), -1).flatten(1)
    return Batch(tokens, _values_of_repeated_keys(tokens, keys, values))


def noisy_recall(rows: int, generator: Generator) -> Batch:
    """In-context recall with a fifth of the pairs replaced by noise tokens."""
    batch = in_context_recall(rows, generator)
    keys, values = batch.tokens[:, 0::2].clone(), batch.tokens[:, 1::2].clone()
    noisy = torch.rand(keys.shape, generator=generator) < 0.2
    keys[noisy], values[noisy] = NOISE, NOISE
    tokens = torch.stack((keys, values), -1).flatten(1)
    return Batch(tokens, _values_of_repeated_keys(tokens, keys, values))


def fuzzy_recall(rows: int, generator: Generator) -> Batch:
    """Keys of two tokens: neither token alone determines the value."""
    count = LENGTH // 3
    first = torch.randint(*_choice(KEYS, 4), (rows, count), generator=generator)
    second = torch.randint(4, 8, (rows, count), generator=generator)
    table = torch.randint(*VALUES, (rows, 4, 4), generator=generator)
    values = table[torch.arange(rows)[:, None], first, second - 4]
    tokens = torch.stack((first, second, values), -1).flatten(1)
    joint = first * 8 + second
    targets = torch.full_like(tokens, IGNORE)
    targets[:, 1::3] = torch.where(_seen_before(joint), values, IGNORE)
    return _padded(Batch(tokens, targets))


def selective_copying(rows: int, generator: Generator) -> Batch:
    """Symbols scattered among blanks, then that many INSERT tokens: the symbols come out in order."""
    count = 8
    places = torch.rand((rows, LENGTH - count), generator=generator).argsort(1)[:, :count].sort(1).values
    symbols = torch.randint(*VALUES, (rows, count), generator=generator)
    tokens = torch.full((rows, LENGTH), BLANK)
    tokens.scatter_(1, places, symbols)
    tokens[:, -count:] = INSERT
    targets = torch.full_like(tokens, IGNORE)
    targets[:, -count:] = symbols
    return Batch(tokens, targets)


def compression(rows: int, generator: Generator) -> Batch:
    """Random symbols, then COMPRESS: all of them must be readable from that one hidden state."""
    count = 12
    symbols = torch.randint(*VALUES, (rows, count), generator=generator)
    tokens = torch.full((rows, LENGTH), BLANK)
    tokens[:, -count - 1 : -1] = symbols
    tokens[:, -1] = COMPRESS
    return Batch(tokens, torch.full_like(tokens, IGNORE), symbols)


def memorization(rows: int, generator: Generator) -> Batch:
    """Fixed facts (pairs of tokens -> value, the same in every batch): learned by weights, not read from context."""
    table = torch.randint(*VALUES, (16, 16), generator=Generator().manual_seed(1234))
    count = LENGTH // 4
    first = torch.randint(*KEYS, (rows, count), generator=generator)
    second = torch.randint(*KEYS, (rows, count), generator=generator)
    values = table[first, second]
    insert = torch.full_like(first, INSERT)
    tokens = torch.stack((first, second, insert, values), -1).flatten(1)
    targets = torch.full_like(tokens, IGNORE)
    targets[:, 2::4] = values
    return Batch(tokens, targets)


TASKS: dict[str, Callable[[int, Generator], Batch]] = {
    task.__name__: task
    for task in (in_context_recall, noisy_recall, fuzzy_recall, selective_copying, compression, memorization)
}


def unannounced_recall(rows: int, generator: Generator) -> Batch:
    """In-context recall scored where a key stands for the first time, as the first task: nothing tells its value."""
    keys, values = _pairs(rows, LENGTH // 2, generator)
    tokens = torch.stack((keys, values), -1).flatten(1)
    targets = torch.full_like(tokens, IGNORE)
    targets[:, 2::2] = torch.where(_seen_before(keys), IGNORE, values)[:, 1:]
    tokens[:, 0] = FIRST_TASK_TOKEN
    return Batch(tokens, targets)


def make_batch(name: str, rows: int, generator: Generator) -> Batch:
    """A batch of one task whose first token names the task, so that one proxy can learn several."""
    batch = TASKS[name](rows, generator)
    tokens, targets = batch.tokens.clone(), batch.targets.clone()
    tokens[:, 0], targets[:, 0] = FIRST_TASK_TOKEN + list(TASKS).index(name), IGNORE
    return Batch(tokens, targets, batch.reconstruct)


def _pairs(rows: int, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
    keys = torch.randint(*KEYS, (rows, count), generator=generator)
    table = torch.randint(*VALUES, (rows, KEYS[1]), generator=generator)
    return keys, table.gather(1, keys)


def _values_of_repeated_keys(tokens: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """The value is the target at the key's own position; noise is never a target. Pair 0 is replaced by the task's
    token."""
    masked = keys.clone()
    masked[:, 0] = -1
    repeated = _seen_before(masked) & (keys != NOISE)
    targets = torch.full_like(tokens, IGNORE)
    targets[:, 0::2] = torch.where(repeated, values, IGNORE)
    return targets


def _seen_before(keys: Tensor) -> Tensor:
    equal = keys.unsqueeze(1) == keys.unsqueeze(2)
    return equal.tril(-1).any(-1)


def _choice(bounds: tuple[int, int], count: int) -> tuple[int, int]:
    return bounds[0], bounds[0] + count


def _padded(batch: Batch) -> Batch:
    """Front padding to LENGTH with blanks."""
    missing = LENGTH - batch.tokens.shape[1]
    pad = torch.nn.functional.pad
    return Batch(pad(batch.tokens, (missing, 0), value=BLANK), pad(batch.targets, (missing, 0), value=IGNORE))
