"""Axes that need no model: is it right, does it loop, does it come to its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from trainer.preference.candidates import Candidate, Question
from trainer.preference.jury import Scores
from trainer.rollout.repetition import loop_span, repeated_share
from trainer.tasks.registry import task_named

NGRAM = 4


@dataclass(frozen=True)
class Correct:
    """The task's verifier; abstains where a text is continued."""

    name: ClassVar[str] = "correct"
    title: ClassVar[str] = "the task's verifier"

    def scores(self, question: Question, candidates: Sequence[Candidate]) -> Scores:
        if question.example is None:
            return [None] * len(candidates)
        task, example = task_named(question.example.task), question.example
        return [task.score(example, candidate.text) if candidate.finished else 0.0 for candidate in candidates]


@dataclass(frozen=True)
class NoLoop:
    """0 for a text that ends in a loop, else the share of its 4-grams that did not stand in it before."""

    name: ClassVar[str] = "no_loop"
    title: ClassVar[str] = "no loop at the end, few repeated 4-grams"

    def scores(self, question: Question, candidates: Sequence[Candidate]) -> Scores:
        return [
            0.0 if not candidate.finished and loop_span(candidate.ids) else 1 - repeated_share(candidate.ids, NGRAM)
            for candidate in candidates
        ]


@dataclass(frozen=True)
class Finished:
    """Whether an answer ended within its budget; abstains where a text is continued."""

    name: ClassVar[str] = "finished"
    title: ClassVar[str] = "the answer ended within its budget"

    def scores(self, question: Question, candidates: Sequence[Candidate]) -> Scores:
        return [None if question.example is None else float(candidate.finished) for candidate in candidates]
