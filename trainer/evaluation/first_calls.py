"""Suite ``tau2``: the first tool call of tau2-bench's tasks, whole and by name alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import structlog

from trainer.evaluation.subject import Subject
from trainer.evaluation.task_scores import scored
from trainer.evaluation.values import Metric, share
from trainer.rollout.generation import encoded
from trainer.tasks.base import Example
from trainer.tasks.tau2 import Tau2, fitted, names_agree, tasks

log = structlog.get_logger()


def first_calls(subject: Subject, domain: str) -> Iterator[Metric]:
    """Prompts are cut to ``max_prompt``; a domain whose shortest is still longer is left out with a warning."""
    for task in tasks(domain):
        yield from _of_domain(subject, task)


def _of_domain(subject: Subject, task: Tau2) -> Iterator[Metric]:
    def num_tokens(example: Example) -> int:
        return len(encoded(subject.tokenizer, [example.conversation])[0])

    settings, name = subject.settings, f"tau2/{task.domain}"
    cut, note = fitted(task, settings.count, settings.max_prompt, num_tokens)
    shortest = min(map(num_tokens, cut.examples("test", settings.count)))
    if shortest > settings.max_prompt:
        log.warning("suite_left_out", suite=task.name, shortest_prompt=shortest, max_prompt=settings.max_prompt)
        return
    yield scored(subject, name, cut, note)
    answers = subject.folder / "answers" / f"tau2-{task.domain}.jsonl"
    said = [json.loads(line) for line in answers.read_text().splitlines()]
    names = [names_agree(row["right"], row["answer"]) for row in said]
    yield replace(share(f"{name}/name", names, "high"), note="whatever the arguments")
