"""The filter chain: each filter says of every example why it goes, and reports how many went and a few of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from trainer.tasks.base import Example
from trainer.tasks.registry import task_named

SHOWN = 3
REFUSALS = re.compile(
    r"\b(i(?:'m| am) (?:sorry|unable|not able)|i (?:can ?not|can't|won't)|as an ai|as a language model)\b",
    re.IGNORECASE,
)
STYLE = (
    (re.compile(r"(\b\w+\b)(?:\W+\1\b){3,}", re.IGNORECASE), "a word four times in a row"),
    (re.compile(r"^(sure|certainly|of course|great question)\b", re.IGNORECASE), "an empty opening"),
    (re.compile(r"[*#_]{3,}|<[a-z]+>|https?://"), "markup or a link"),
)


class Filter(Protocol):
    @property
    def name(self) -> str: ...

    def reasons(self, examples: Sequence[Example]) -> list[str | None]:
        """Why each example goes; None keeps it."""
        ...


@dataclass(frozen=True)
class Report:
    """``shown`` are the first examples that went, with the reason."""

    filter: str
    seen: int
    dropped: int
    reasons: dict[str, int]
    shown: list[dict[str, str]]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def run_filters(filters: Sequence[Filter], examples: Sequence[Example]) -> tuple[list[Example], list[Report]]:
    """Filters see what those before them left."""
    kept, reports = list(examples), []
    for chosen in filters:
        verdicts = list(zip(kept, chosen.reasons(kept), strict=True))
        gone = [(example, reason) for example, reason in verdicts if reason is not None]
        shown = [{"prompt": e.prompt, "answer": e.answer, "reason": why} for e, why in gone[:SHOWN]]
        reports.append(Report(chosen.name, len(kept), len(gone), dict(Counter(why for _, why in gone)), shown))
        kept = [example for example, reason in verdicts if reason is None]
    return kept, reports


@dataclass(frozen=True)
class Each:
    """A filter that looks at one example at a time."""

    name: str
    why: Callable[[Example], str | None]

    def reasons(self, examples: Sequence[Example]) -> list[str | None]:
        return [self.why(example) for example in examples]


def malformed(example: Example) -> str | None:
    if not example.prompt.strip() or not example.answer.strip():
        return "empty"
    text = example.system + example.prompt + example.answer
    if "<|" in text or any(not (c.isprintable() or c in "\n\t") for c in text):
        return "special tokens or control characters"
    if example.task != "chat" and task_named(example.task).score(example, example.answer) != 1.0:
        return "its own verifier refuses the answer"
    return None


def refusal(example: Example) -> str | None:
    return "a refusal" if REFUSALS.search(example.answer) else None


def style(example: Example) -> str | None:
    """Of text that a teacher wrote; what a verifier accepts has the style it must have."""
    if example.source != "teacher":
        return None
    text = example.prompt if example.task == "extraction" else example.answer
    found = next((why for pattern, why in STYLE if pattern.search(text)), None)
    return found or ("cut off" if text[-1:] not in ".!?" else None)


@dataclass(frozen=True)
class Judged:
    """Drops what a judge scores below ``least``. Templates are not judged: their verifier is."""

    judge: Callable[[Sequence[Example]], list[float]]
    least: float
    name: str = "judge"

    def reasons(self, examples: Sequence[Example]) -> list[str | None]:
        chosen = [i for i, example in enumerate(examples) if example.source == "teacher"]
        scores = dict(zip(chosen, self.judge([examples[i] for i in chosen]), strict=True))
        low = {i for i, score in scores.items() if not score >= self.least}
        return [f"scored below {self.least}" if i in low else None for i in range(len(examples))]
