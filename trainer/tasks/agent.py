"""Tasks that need tools: facts that only the search knows, sums that Python does, and both one after the other.

A turn that is one call, ``search("...")`` or ``python("...")``, is answered by the tool; any other turn is the answer.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from foundation.errors import InvalidConfig
from trainer.tasks import words
from trainer.tasks.base import Conversation, Example, Split, drawn, seed_of
from trainer.tools.python import PythonTool
from trainer.tools.search import Search

SYSTEM = 'Tools: search("words"), python("code"). Call one or answer.'
PEOPLE = 600  # with made-up names, in each split
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
PYTHON = PythonTool()  # shared, so that its counts are of the whole process
Steps = list[tuple[str, str]]  # what the model says, and what the tool answers; the last is the final answer


@dataclass(frozen=True)
class Person:
    name: str
    age: int
    city: str
    job: str

    def sentence(self) -> str:
        return f"{self.name} is {self.age} years old, lives in {self.city} and works as a {self.job}."


@lru_cache(maxsize=16)
def people(split: Split, level: int) -> tuple[Person, ...]:
    """Splits have people of their own: no answer can be learned by heart. From level 1 on names are made up."""
    draw = drawn("agent:people", split, min(level, 1))
    if level:
        names = [f"{draw.choice(words.FIRST)} {words.new_name(draw)}" for _ in range(PEOPLE)]
    else:
        names = [f"{first} {last}" for first in words.FIRST for last in words.LAST if _split_of(first + last) == split]
    known = dict.fromkeys(names)
    return tuple(Person(n, draw.randint(18, 90), draw.choice(words.CITIES), draw.choice(words.JOBS)) for n in known)


def _split_of(name: str) -> Split:
    return SPLITS[seed_of("agent:name", name) % len(SPLITS)]


@lru_cache(maxsize=1)
def corpus() -> Search:
    """Everybody, and nothing else."""
    return Search(person.sentence() for split in SPLITS for level in (0, 1) for person in people(split, level))


@dataclass(frozen=True)
class Tools(Conversation):
    def reply(self, said: str) -> str | None:
        call = call_in(said)
        if call is None:
            return None
        name, argument = call
        return corpus()(argument) if name == "search" else PYTHON(argument)


def call_in(said: str) -> tuple[str, str] | None:
    """Tool and its one argument, when the whole turn is a call of a tool."""
    try:
        call = ast.parse(said.strip(), mode="eval").body
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    if (
        not isinstance(call, ast.Call)
        or not isinstance(call.func, ast.Name)
        or call.func.id not in ("search", "python")
    ):
        return None
    argument = call.args[0] if len(call.args) == 1 and not call.keywords else None
    if not isinstance(argument, ast.Constant) or not isinstance(argument.value, str):
        return None
    return call.func.id, argument.value


def _lookup(draw: random.Random, split: Split, level: int) -> tuple[str, Steps]:
    person = draw.choice(people(split, level))
    question, answer = draw.choice((
        (f"How old is {person.name}?", str(person.age)), (f"Where does {person.name} live?", person.city),
        (f"What does {person.name} work as?", person.job),
    ))  # fmt: skip
    return question, [(f'search("{person.name}")', person.sentence()), (answer, "")]


def _compute(draw: random.Random, split: Split, level: int) -> tuple[str, Steps]:
    digits = 10 ** (2 + level)
    a, b = draw.randint(2, digits - 1), draw.randint(2, digits - 1)
    sign = draw.choice("+-*")
    value = {"+": a + b, "-": a - b, "*": a * b}[sign]
    return f"What is {a} {sign} {b}?", [(f'python("print({a}{sign}{b})")', str(value)), (str(value), "")]


def _chain(draw: random.Random, split: Split, level: int) -> tuple[str, Steps]:
    person, target = draw.choice(people(split, level)), draw.randint(91, 120)
    value = str(target - person.age)
    return f"In how many years is {person.name} {target} years old?", [
        (f'search("{person.name}")', person.sentence()), (f'python("print({target}-{person.age})")', value),
        (value, ""),
    ]  # fmt: skip


FAMILIES: dict[str, Callable[[random.Random, Split, int], tuple[str, Steps]]] = {
    "lookup": _lookup, "compute": _compute, "chain": _chain,
}  # fmt: skip


@dataclass(frozen=True)
class Agent:
    """Level 1 and on: made-up names, longer numbers."""

    family: str
    level: int = 0

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise InvalidConfig(f"unknown agent task {self.family!r}; known: {', '.join(FAMILIES)}")

    @property
    def name(self) -> str:
        return f"agent:{self.family}" + (f"@{self.level}" if self.level else "")

    def examples(self, split: Split, count: int) -> list[Example]:
        """Questions alone: the model finds its own way to the answer."""
        return [Example(self.name, question, steps[-1][0], {}, self.level, SYSTEM)
                for question, steps in self._drawn(split, count)]  # fmt: skip

    def demonstrations(self, split: Split, count: int) -> list[Example]:
        """One example for every turn of ``count`` solved questions, for fine-tuning."""
        return [example for question, steps in self._drawn(split, count) for example in self._turns(question, steps)]

    def _drawn(self, split: Split, count: int) -> list[tuple[str, Steps]]:
        draw = drawn(f"agent:{self.family}", split, self.level)
        return [FAMILIES[self.family](draw, split, self.level) for _ in range(count)]

    def _turns(self, question: str, steps: Steps) -> list[Example]:
        found: list[Example] = []
        history: Steps = []
        for said, heard in steps:
            found.append(
                Example(
                    self.name, question, said, {"turn": len(history) // 2}, self.level, SYSTEM, history=tuple(history)
                )
            )
            history += [("assistant", said), ("tool", heard)]
        return found

    def converse(self, example: Example) -> Conversation:
        return Tools()

    def score(self, example: Example, answer: str) -> float:
        """1 for the answer itself, spaces and a full stop aside."""
        return float(answer.strip().rstrip(".") == example.answer.strip())
