"""The suites that a config may name, and how it names them: ``name``, ``name:argument``, then options.

``"retrieval count=4 contexts=256,1024"`` sets fields of ``Settings`` for this suite alone. A new metric is a function
that yields ``Metric``s and a line under ``SUITES``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from foundation.part_spec import parse_spec, typed_options
from foundation.registry import Registry
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


SUITES: Registry[Suite] = Registry("suite")
SUITES.add("bits_per_byte", Suite(bits_per_byte, "held-out text, comparable across vocabularies"))
SUITES.add("loss_by_position", Suite(loss_by_position, "nats per token by position, up to 4x the trained length"))
SUITES.add("retrieval", Suite(retrieval, "a hidden number found again, by context and depth"))
SUITES.add("doom_loops", Suite(_doom_loops, "share of texts that end in a loop, greedy and sampled"))
SUITES.add("task", Suite(_task, "task:NAME, the share of test examples whose verifier agrees", _task_ready))
SUITES.add("bfcl", Suite(_bfcl, "function calls of BFCL v4; bfcl:CATEGORY for one category", _bfcl_ready))
SUITES.add("ifbench", Suite(_ifbench, "prompts of IFBench whose every instruction is followed", _ifbench_ready))
SUITES.add("tau2", Suite(_tau2, "the first tool call of tau2-bench's tasks; tau2:DOMAIN for one domain", _tau2_ready))
SUITES.add("levels", Suite(_levels, "levels:DATASET, reasoning-gym by level of its curriculum", _levels_ready))
SUITES.add("lm_eval", Suite(_lm_eval, "lm_eval:FILE.yaml, a task of lm-eval with its data beside it", _lm_eval_ready))


@dataclass(frozen=True)
class SuiteRun:
    """A suite as a recipe names it, with its own settings."""

    text: str
    suite: Suite
    argument: str
    settings: Settings

    def metrics(self, subject: Subject) -> list[Metric]:
        return list(self.suite.run(replace(subject, settings=self.settings), self.argument))


def suite_of(text: str, settings: Settings) -> SuiteRun:
    """Raises InvalidConfig for an unknown suite or option, or when what it needs is not there."""
    spec = parse_spec(text, SUITES.noun)
    suite = SUITES.get_or_raise(spec.name)
    suite.ready(spec.argument)
    return SuiteRun(text, suite, spec.argument, replace(settings, **typed_options(spec, Settings, SUITES.noun)))
