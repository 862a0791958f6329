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

from nas.contracts.errors import InvalidConfig
from trainer.distillation import IGNORE
from trainer.evaluation.language import spread
from trainer.evaluation.subject import Subject
from trainer.evaluation.values import Metric, ratio, score
from trainer.generation import encoded

DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
KEYS = ("Anna", "Bernard", "Clara", "David", "Emma", "Felix", "Greta", "Henry", "Iris", "Jonas", "Karla", "Leon")
ROWS = 8  # of the longest context that are read at once


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
        hay = _haystacks(subject, context)
        for depth in DEPTHS:
            hidden = [(needle, needle.sentence) for needle in needles], [(needle, needle.other) for needle in needles]
            rows, without = ([_row(hay[i], *pair, context, depth) for i, pair in enumerate(pairs)] for pairs in hidden)
            (present, whole), (absent, _other) = answered(subject, rows), answered(subject, without)
            at = f"retrieval/{context}/{depth:g}"
            yield score(f"{at}/accuracy", whole)
            gained = [found - lost for found, lost in zip(present, absent, strict=True)]
            yield ratio(f"{at}/gain_nats", gained, [1.0] * len(gained), "high")


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


def answered(subject: Subject, rows: list[tuple[list[int], int]]) -> tuple[list[float], list[float]]:
    """Per row of (ids, how many of the last are the value): the value's log-likelihood, and 1 where each of its tokens
    is the likeliest, which is when greedy decoding says it."""
    nats, whole = [], []
    for at in range(0, len(rows), ROWS):
        for likelihood, right in _batch(subject, rows[at : at + ROWS]):
            nats.append(likelihood)
            whole.append(right)
    return nats, whole


@torch.inference_mode()
def _batch(subject: Subject, rows: list[tuple[list[int], int]]) -> list[tuple[float, float]]:
    most = max(size for _, size in rows)
    ids_BT = torch.tensor([ids for ids, _ in rows], device=subject.device)
    logits = subject.model(ids_BT[:, :-1], use_cache=False, logits_to_keep=most).logits.float()
    labels = ids_BT[:, -most:].clone()
    for row, (_, size) in enumerate(rows):
        labels[row, : most - size] = IGNORE
    nats = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORE, reduction="none")
    right = ((logits.argmax(-1) == labels) | (labels == IGNORE)).all(1)
    return list(zip((-nats.sum(1)).tolist(), right.float().tolist(), strict=True))


def _row(
    hay: NDArray[np.int32], needle: Needle, sentence: list[int], context: int, depth: float
) -> tuple[list[int], int]:
    """``context`` tokens that end with the value, and how many tokens that is."""
    size = context - len(sentence) - len(needle.question) - len(needle.value)
    text, at = hay[:size].tolist(), round(depth * size)
    return [*text[:at], *sentence, *text[at:], *needle.question, *needle.value], len(needle.value)


def _haystacks(subject: Subject, context: int) -> list[NDArray[np.int32]]:
    """``count`` windows of text, which overlap when it is short."""
    text, count = subject.text_without_ends(), subject.settings.count
    if len(text) < context or context < 64:
        raise InvalidConfig(f"a context of {context} tokens does not fit: 64 to {len(text)} (the held-out text) work")
    starts = spread(len(text) - context + 1, count)
    return [text[starts[i % len(starts)] :][:context] for i in range(count)]
