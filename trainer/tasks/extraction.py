"""Structured extraction: a sentence in, a JSON object out, checked field by field."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

from trainer.tasks import words
from trainer.tasks.base import Example, Split, drawn

TEMPLATES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("name", "age", "city"): (
        "{name} is {age} years old and lives in {city}.", "In {city} there lives {name}, aged {age}.",
        "Our guest from {city} is called {name} and is {age}.",
    ),
    ("name", "job"): ("{name} works as a {job}.", "The {job} on duty today is {name}.", "{name} became a {job}."),
    ("item", "count", "price"): (
        "The order lists {count} of the item {item} at {price} dollars each.",
        "For {price} dollars a piece we sold the {item} {count} times.",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Extraction:
    """Level 0 draws known names; level 1 makes names up, so that they must be copied."""

    level: int = 0

    @property
    def name(self) -> str:
        return "extraction" + (f"@{self.level}" if self.level else "")

    def examples(self, split: Split, count: int) -> list[Example]:
        draw = drawn("extraction", split, self.level)
        return [self._example(draw) for _ in range(count)]

    def _example(self, draw: random.Random) -> Example:
        keys = draw.choice(list(TEMPLATES))
        record = record_of(keys, draw, self.level)
        return example_of(record, draw.choice(TEMPLATES[keys]).format(**record), self.name, self.level)

    def score(self, example: Example, answer: str) -> float:
        """1 when the first JSON object in ``answer`` equals the record, types included."""
        return float(first_object(answer) == example.entry["record"])


def record_of(keys: tuple[str, ...], draw: random.Random, level: int = 0) -> dict[str, Any]:
    known = {
        "name": lambda: words.new_name(draw) if level else f"{draw.choice(words.FIRST)} {draw.choice(words.LAST)}",
        "age": lambda: draw.randint(18, 90), "city": lambda: draw.choice(words.CITIES),
        "job": lambda: draw.choice(words.JOBS), "item": lambda: draw.choice(words.THINGS),
        "count": lambda: draw.randint(2, 60), "price": lambda: draw.randint(2, 99),
    }  # fmt: skip
    return {key: known[key]() for key in keys}


def example_of(record: dict[str, Any], sentence: str, task: str, level: int = 0, source: str = "template") -> Example:
    prompt = f"Give {', '.join(record)} as JSON: {sentence}"
    return Example(task, prompt, json.dumps(record), {"record": record}, level, source=source)


def first_object(text: str) -> dict[str, Any] | None:
    """The first JSON object in ``text``, or None."""
    at = text.find("{")
    try:
        found, _ = json.JSONDecoder().raw_decode(text[at:]) if at >= 0 else (None, 0)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
