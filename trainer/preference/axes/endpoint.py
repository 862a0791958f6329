"""A judge behind any OpenAI-compatible chat endpoint: one request per question, scores from 0 to 10 as a JSON list.

What does not answer, or answers something else, abstains and is counted; many in a row stop the stage, which keeps
every verdict that it has. ``HILNAS_JURY_KEY`` is sent as bearer token where it is set.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import httpx
import structlog

from foundation.errors import InvalidConfig
from trainer.preference.candidates import Candidate, Question
from trainer.preference.jury import JuryFailed, Scores

log = structlog.get_logger()
MAX_FAILURES = 5
ASK = (
    "Rate each answer to the prompt from 0 (useless) to 10 (excellent) by: {axis}. Reply with a JSON list of {count}"
    " numbers and nothing else.\n\nPrompt:\n{prompt}\n\n{answers}"
)
LIST = re.compile(r"\[[^\[\]]*\]")


@dataclass
class Endpoint:
    """``axis`` is what it is asked to judge by, in words with underscores; ``timeout`` in seconds."""

    url: str = ""
    model: str = ""
    axis: str = "helpfulness_and_correctness"
    timeout: float = 30.0
    failures: int = field(default=0, init=False)
    title: ClassVar[str] = "a judge behind an OpenAI-compatible chat endpoint"
    transport: ClassVar[httpx.BaseTransport | None] = None

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")) or not self.model:
            raise InvalidConfig("axis endpoint wants url=http://HOST/v1 and model=NAME, e.g. of llama.cpp's server")

    @property
    def name(self) -> str:
        return f"endpoint:{self.axis}"

    def scores(self, question: Question, candidates: Sequence[Candidate]) -> Scores:
        """All None when there is no usable answer. Raises JuryFailed after several of these in a row."""
        try:
            found = parse_scores(self._asked(question, candidates), len(candidates))
            self.failures = 0
            return list(found)
        except (httpx.HTTPError, ValueError, KeyError, TypeError, IndexError) as error:
            self.failures += 1
            log.warning("jury_abstains", url=self.url, reason=f"{type(error).__name__}: {error}"[:200])
            if self.failures >= MAX_FAILURES:
                raise JuryFailed(
                    f"the jury at {self.url} gave no usable answer {self.failures} times in a row, the last: {error}"[
                        :300
                    ]
                    + "; check the address and the model, or leave the axis out"
                ) from error
            return [None] * len(candidates)

    def _asked(self, question: Question, candidates: Sequence[Candidate]) -> str:
        answers = "\n\n".join(f"Answer {i}:\n{candidate.text}" for i, candidate in enumerate(candidates, 1))
        words = ASK.format(
            axis=self.axis.replace("_", " "), count=len(candidates), prompt=question.prompt, answers=answers
        )
        key = os.environ.get("HILNAS_JURY_KEY")
        with httpx.Client(timeout=self.timeout, transport=self.transport) as client:
            response = client.post(
                f"{self.url.rstrip('/')}/chat/completions",
                json={"model": self.model, "temperature": 0, "messages": [{"role": "user", "content": words}]},
                headers={"Authorization": f"Bearer {key}"} if key else {},
            )
        response.raise_for_status()
        return str(response.json()["choices"][0]["message"]["content"])


def parse_scores(text: str, count: int) -> list[float]:
    """The last JSON list of ``count`` numbers from 0 to 10 in ``text``, as shares. Raises ValueError without one."""
    for found in reversed(LIST.findall(text)):
        try:
            values = json.loads(found)
        except ValueError:
            continue
        if len(values) == count and all(type(v) in (int, float) and 0 <= v <= 10 for v in values):
            return [value / 10 for value in values]
    raise ValueError(f"no list of {count} numbers from 0 to 10 in {text[:80]!r}")
