"""The suites that a config may name, and how it names them: ``name``, ``name:argument``, then options.

``"retrieval count=4 contexts=256,1024"`` sets fields of ``Settings`` for this suite alone. A new metric is a function
that yields ``Metric``s and a line in ``SUITES``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from foundation.errors import InvalidConfig
from trainer.evaluation.language import bits_per_byte, loss_by_position
from trainer.evaluation.retrieval import retrieval
from trainer.evaluation.subject import Settings, Subject
from trainer.evaluation.values import Metric


@dataclass(frozen=True)
class Suite:
    """``ready`` raises InvalidConfig when the argument or a package it needs is not there."""

    run: Callable[[Subject, str], Iterator[Metric]]
    about: str
    ready: Callable[[str], object] = lambda _: None


def _task(subject: Subject, name: str) -> Iterator[Metric]:
    from trainer.evaluation.task_scores import scored
    from trainer.tasks.registry import task_named

    yield scored(subject, f"task/{name}", task_named(name))


def _task_ready(name: str) -> None:
    from trainer.tasks.registry import task_named

    task_named(name)


def _bfcl(subject: Subject, category: str) -> Iterator[Metric]:
    from trainer.evaluation.task_scores import scored
    from trainer.tasks.bfcl import tasks

    for task in tasks(category):
        yield scored(subject, f"bfcl/{task.category}", task)


def _bfcl_ready(category: str) -> None:
    from trainer.tasks.bfcl import tasks

    tasks(category)


def _ifbench(subject: Subject, _: str) -> Iterator[Metric]:
    from trainer.evaluation.task_scores import scored
    from trainer.tasks.ifbench import IfBench

    task = IfBench()
    yield scored(subject, "ifbench", task, task.note)


def _ifbench_ready(_: str) -> None:
    from trainer.tasks.ifbench import check_installed

    check_installed()


def _tau2(subject: Subject, domain: str) -> Iterator[Metric]:
    from trainer.evaluation.first_calls import first_calls

    return first_calls(subject, domain)


def _tau2_ready(domain: str) -> None:
    from trainer.tasks.tau2 import tasks

    tasks(domain)


def _levels(subject: Subject, argument: str) -> Iterator[Metric]:
    from trainer.evaluation.levels import levels

    return levels(subject, argument)


def _levels_ready(argument: str) -> None:
    from trainer.evaluation.levels import levels_of

    levels_of(argument)


def _lm_eval(subject: Subject, task: str) -> Iterator[Metric]:
    from trainer.evaluation.lm_eval import lm_eval_scores

    return lm_eval_scores(subject, task)


def _lm_eval_ready(task: str) -> None:
    from trainer.evaluation.lm_eval import check_task

    check_task(task)


def _doom_loops(subject: Subject, _: str) -> Iterator[Metric]:
    from trainer.evaluation.doom_loops import doom_loops

    return doom_loops(subject)


SUITES: dict[str, Suite] = {
    "bits_per_byte": Suite(bits_per_byte, "held-out text, comparable across vocabularies"),
    "loss_by_position": Suite(loss_by_position, "nats per token in position buckets up to 4x the trained length"),
    "retrieval": Suite(retrieval, "a hidden number found again, by context and depth"),
    "doom_loops": Suite(_doom_loops, "share of texts that end in a loop, greedy and sampled"),
    "task": Suite(_task, "task:NAME, the share of test examples whose verifier agrees", _task_ready),
    "bfcl": Suite(_bfcl, "function calls of BFCL v4; bfcl:CATEGORY for one category", _bfcl_ready),
    "ifbench": Suite(_ifbench, "prompts of IFBench whose every instruction is followed", _ifbench_ready),
    "tau2": Suite(_tau2, "the first tool call of tau2-bench's tasks; tau2:DOMAIN for one domain", _tau2_ready),
    "levels": Suite(_levels, "levels:DATASET, reasoning-gym by level of its curriculum", _levels_ready),
    "lm_eval": Suite(_lm_eval, "lm_eval:FILE.yaml, a task of lm-eval with its data beside it", _lm_eval_ready),
}


@dataclass(frozen=True)
class Named:
    """A suite as a config names it."""

    text: str
    suite: Suite
    argument: str
    settings: Settings

    def metrics(self, subject: Subject) -> list[Metric]:
        return list(self.suite.run(replace(subject, settings=self.settings), self.argument))


def suite_named(text: str, settings: Settings) -> Named:
    """Raises InvalidConfig for an unknown suite or option, or when what it needs is not there."""
    first, *words = text.split() or [""]
    name, _, argument = first.partition(":")
    if name not in SUITES:
        raise InvalidConfig(f"unknown suite {name!r}; known suites: {', '.join(SUITES)}")
    suite = SUITES[name]
    suite.ready(argument)
    return Named(text, suite, argument, replace(settings, **dict(_option(word) for word in words)))


def _option(word: str) -> tuple[str, Any]:
    key, _, value = word.partition("=")
    known = [field.name for field in fields(Settings)]
    if key not in known:
        raise InvalidConfig(f"unknown option {word!r} of a suite; known options: {', '.join(known)}")
    try:
        numbers = tuple(int(part) for part in value.split(","))
    except ValueError:
        raise InvalidConfig(f"option {word!r} of a suite wants whole numbers, e.g. {key}=256") from None
    if key != "contexts" and len(numbers) > 1:
        raise InvalidConfig(f"option {word!r} of a suite wants one number")
    return key, numbers if key == "contexts" else numbers[0]
