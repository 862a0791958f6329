"""What a task is: examples by split, and a verifier that scores any answer."""

from __future__ import annotations

import hashlib
import random
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from trainer.data.chat import Prompt, prompt_of

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Example:
    """``prompt`` is what the user says, ``answer`` one right answer, ``entry`` what the verifier needs (plain data).

    ``source`` says who wrote it: a verifier's template, or a teacher. ``history`` are (role, text) of turns between the
    user's words and the answer: calls of tools and what these said.
    """

    task: str
    prompt: str
    answer: str
    entry: dict[str, Any] = field(default_factory=dict)
    level: int = 0
    system: str = ""
    source: str = "template"
    history: tuple[tuple[str, str], ...] = ()

    @property
    def conversation(self) -> Prompt:
        """All that stands before the answer."""
        return prompt_of(self.prompt, self.system, self.history)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Example:
        """Raises TypeError or ValueError for what is no example."""
        return cls(**{**plain, "history": tuple((role, text) for role, text in plain.get("history", ()))})


class Task(Protocol):
    @property
    def name(self) -> str: ...

    def examples(self, split: Split, count: int) -> list[Example]:
        """The same for the same arguments; splits draw from seeds of their own."""
        ...

    def score(self, example: Example, answer: str) -> float:
        """0 to 1; nonsense scores 0 and raises nothing."""
        ...


class Conversation(Protocol):
    """The tools of one episode. A task that has tools gives one by ``converse(example)``."""

    def reply(self, said: str) -> str | None:
        """What the tool answers to the model's turn; None when that turn is no call, and so the final answer."""
        ...


def seed_of(*parts: object) -> int:
    """A seed that depends on all parts and on no process."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")


def drawn(name: str, split: Split, level: int = 0) -> random.Random:
    return random.Random(seed_of(name, split, level))
