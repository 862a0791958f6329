"""ChatML, the one prompt format: what a user or a system says, and where the model's turn begins and ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

START, STOP = "<|im_start|>", "<|im_end|>"


def prompt_of(user: str, system: str = "", history: Sequence[tuple[str, str]] = ()) -> str:
    """Everything before the model's turn; ``history`` are (role, text) of the turns since the user's."""
    instructions = turn("system", system) if system else ""
    since = "".join(turn(role, text) for role, text in history)
    return f"{instructions}{turn('user', user)}{since}{START}assistant\n"


def turn(role: str, text: str) -> str:
    return f"{START}{role}\n{text}{STOP}\n"


@dataclass(frozen=True)
class Encoded:
    """Token ids, and for each whether it is the model's to say (its answer and the end of its turn)."""

    ids: list[int]
    learned: list[bool]


def encode(tokenizer: Tokenizer, prompt: str, answer: str, end: int) -> Encoded:
    """One document: prompt, answer, end of turn, ``end``. Prompt and answer are encoded apart, as generation does."""
    before = tokenizer.encode(prompt, add_special_tokens=False).ids
    said = tokenizer.encode(answer + STOP, add_special_tokens=False).ids
    return Encoded([*before, *said, end], [False] * len(before) + [True] * len(said) + [False])
