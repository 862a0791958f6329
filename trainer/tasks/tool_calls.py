"""Tool calls: functions as JSON schemas and a wish in, one Python call out, checked against the schema and the wish."""

from __future__ import annotations

import ast
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trainer.tasks import words
from trainer.tasks.base import Example, Split, drawn

Draw = Callable[[random.Random], Any]


@dataclass(frozen=True)
class Tool:
    """``parameters``: name -> JSON schema type and how its values are drawn; ``wishes`` are what users say."""

    name: str
    parameters: dict[str, tuple[str, Draw]]
    wishes: tuple[str, ...]

    def schema(self) -> dict[str, Any]:
        properties = {name: {"type": kind} for name, (kind, _) in self.parameters.items()}
        return {"name": self.name, "parameters": {"properties": properties, "required": list(properties)}}


def _one_of(values: tuple[str, ...]) -> Draw:
    return lambda draw: draw.choice(values)


def _number(low: int, high: int) -> Draw:
    return lambda draw: draw.randint(low, high)


TOOLS = (
    Tool("get_weather", {"city": ("string", _one_of(words.CITIES))}, ("How is the weather in {city}?",
         "Tell me the weather for {city}.")),
    Tool("set_timer", {"minutes": ("integer", _number(1, 90))}, ("Wake me in {minutes} minutes.",
         "Set a timer of {minutes} minutes.")),
    Tool("send_message", {"to": ("string", _one_of(words.FIRST)), "text": ("string", _one_of(("hello", "thank you",
         "call me", "on my way", "good night")))}, ("Write {text} to {to}.", "Send {to} the message {text}.")),
    Tool("convert", {"amount": ("integer", _number(2, 99)), "unit": ("string", _one_of(("miles", "pounds", "feet",
         "inches")))}, ("Convert {amount} {unit}.", "How much is {amount} {unit}?")),
    Tool("book_table", {"city": ("string", _one_of(words.CITIES)), "people": ("integer", _number(2, 12))},
         ("A table for {people} in {city}, please.", "Book dinner in {city} for {people}.")),
    Tool("find_product", {"item": ("string", _one_of(words.THINGS)), "max_price": ("integer", _number(5, 99))},
         ("I want a {item} under {max_price} dollars.", "Find a {item} for at most {max_price}.")),
)  # fmt: skip


@dataclass(frozen=True)
class ToolCalls:
    """Level 0 offers the one tool that is needed, level 1 two to choose from, and so on."""

    level: int = 0

    @property
    def name(self) -> str:
        return "tool_calls" + (f"@{self.level}" if self.level else "")

    def examples(self, split: Split, count: int) -> list[Example]:
        draw = drawn("tool_calls", split, self.level)
        return [self._example(draw) for _ in range(count)]

    def _example(self, draw: random.Random) -> Example:
        wanted = draw.choice(TOOLS)
        others = draw.sample([tool for tool in TOOLS if tool is not wanted], min(self.level, len(TOOLS) - 1))
        offered = [wanted, *others]
        draw.shuffle(offered)
        values = {name: value(draw) for name, (_, value) in wanted.parameters.items()}
        system = "Tools: " + json.dumps([tool.schema() for tool in offered])
        call = f"{wanted.name}({', '.join(f'{name}={value!r}' for name, value in values.items())})"
        entry = {"name": wanted.name, "arguments": values}
        wish = draw.choice(wanted.wishes).format(**values)
        return Example(self.name, wish, call, entry, self.level, system=system)

    def score(self, example: Example, answer: str) -> float:
        """1 for one call of the right function with exactly the right arguments, by value and type."""
        return float(parse_call(answer) == (example.entry["name"], example.entry["arguments"]))


def parse_call(text: str) -> tuple[str, dict[str, Any]] | None:
    """Name and keyword arguments of a single Python call of literals, brackets around it allowed; else None."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        call = tree.elts[0] if isinstance(tree, ast.List) and len(tree.elts) == 1 else tree
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            return None
        return call.func.id, {str(k.arg): ast.literal_eval(k.value) for k in call.keywords if k.arg is not None}
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):  # TypeError: a list as a key
        return None
