"""A key and its value hidden in held-out text, at several depths of several context lengths.

A tiny model seldom says the value; that it finds the value likelier than when another key and number stand in the
sentence's place shows earlier. (Any number in the context makes every number likelier; that does not count.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foundation.errors import InvalidConfig
from search_space.modeling.cache import HilnasCache
from trainer.data.packing import IGNORE
from trainer.evaluation.language import spread
from trainer.evaluation.subject import Subject
from trainer.evaluation.values import Metric, ratio, score
from trainer.rollout.generation import encoded

DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
KEYS = ("Anna", "Bernard", "Clara", "David", "Emma", "Felix", "Greta", "Henry", "Iris", "Jonas", "Karla", "Leon")
TOKENS = 16_384  # of context that are read at once


@dataclass(frozen=True)
class Needle:
    """Token ids of the sentence, of one with another key and value, of the question that begins like the first, and
    of its value."""

    sentence: list[int]
    other: list[int]
    question: list[int]
    value: list[int]


def retrieval(subject: Subject, _: str = "") -> Iterator[Metric]:
    """Per context and depth: share of values that greedy decoding says whole, and nats gained over the same context
    with the other sentence."""
    settings = subject.settings
    needles = needles_of(subject, settings.count, settings.seed)
    for context in settings.contexts or tuple(settings.length * factor for factor in (1, 2, 4)):
        hay, size = _haystacks(subject, context), max(1, TOKENS // context)
        parts = [_answered(subject, needles[at : at + size], hay[at : at + size]) for at in range(0, len(hay), size)]
        for index, depth in enumerate(DEPTHS):
            found = [row for part in parts for row in part[index]]
            at = f"retrieval/{context}/{depth:g}"
            yield score(f"{at}/accuracy", [whole for _, whole in found])
            yield ratio(f"{at}/gain_nats", [gained for gained, _ in found], [1.0] * len(found), "high")


def needles_of(subject: Subject, count: int, seed: int) -> list[Needle]:
    """Names with five-digit numbers; equal for equal arguments and tokenizer."""
    random, made = np.random.default_rng((seed, 7)), []
    for index in range(count):
        (start, value), (other, number) = (
            (f"\nThe secret number of {KEYS[at % len(KEYS)]} is", f" {random.integers(10_000, 100_000)}")
            for at in (index, index + 1)
        )
        texts = [f"{start}{value}.\n", f"{other}{number}.\n", start, value]
        made.append(Needle(*encoded(subject.tokenizer, texts)))
    return made


@torch.inference_mode()
def _answered(subject: Subject, needles: list[Needle], hay: NDArray[np.int64]) -> list[list[tuple[float, float]]]:
    """Per depth and needle: nats gained, and 1 where each token of the value is the likeliest, which is when greedy
    decoding says it. What stands before the sentence is read once for all depths and both sentences."""
    context, cache, read, found = hay.shape[1], HilnasCache(), 0, []
    base = context - max(
        _length(needle, sentence) for needle in needles for sentence in (needle.sentence, needle.other)
    )
    both = torch.arange(len(needles), device=subject.device).repeat(2)
    for at in (round(depth * base) for depth in DEPTHS):
        if at > read:
            ids_BT = torch.from_numpy(hay[:, read:at].copy()).to(subject.device)
            subject.model(ids_BT, past_key_values=cache, use_cache=True, logits_to_keep=1)
            read = at
        tails = [_tail(row, needle, needle.sentence, at) for row, needle in zip(hay, needles, strict=True)]
        tails += [_tail(row, needle, needle.other, at) for row, needle in zip(hay, needles, strict=True)]
        branch = cache.snapshot()
        branch.reorder_cache(both)
        nats, whole = _values(subject, branch, torch.tensor(tails, device=subject.device), needles * 2)
        count = len(needles)
        found.append([(nats[i] - nats[count + i], whole[i]) for i in range(count)])
    return found


def _values(
    subject: Subject, cache: HilnasCache, ids_BT: Tensor, needles: list[Needle]
) -> tuple[list[float], list[float]]:
    """Log-likelihood of each row's value, which ends it, and whether it is the likeliest throughout."""
    most = max(len(needle.value) for needle in needles)
    logits = subject.model(ids_BT[:, :-1], past_key_values=cache, use_cache=True, logits_to_keep=most).logits.float()
    labels = ids_BT[:, -most:].clone()
    for row, needle in enumerate(needles):
        labels[row, : most - len(needle.value)] = IGNORE
    nats = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORE, reduction="none")
    right = ((logits.argmax(-1) == labels) | (labels == IGNORE)).all(1)
    return (-nats.sum(1)).tolist(), right.float().tolist()


def _length(needle: Needle, sentence: list[int]) -> int:
    return len(sentence) + len(needle.question) + len(needle.value)


def _tail(hay: NDArray[np.int64], needle: Needle, sentence: list[int], at: int) -> list[int]:
    """From the sentence on, so that the whole row has as many tokens as ``hay``."""
    rest = hay[at : len(hay) - _length(needle, sentence)].tolist()
    return [*sentence, *rest, *needle.question, *needle.value]


def _haystacks(subject: Subject, context: int) -> NDArray[np.int64]:
    """``count`` windows of text [count, context], which overlap when it is short."""
    text, count = subject.text_without_ends(), subject.settings.count
    if len(text) < context or context < 64:
        raise InvalidConfig(f"a context of {context} tokens does not fit: 64 to {len(text)} (the held-out text) work")
    starts = spread(len(text) - context + 1, count)
    return np.stack([text[starts[i % len(starts)] :][:context] for i in range(count)]).astype(np.int64)
