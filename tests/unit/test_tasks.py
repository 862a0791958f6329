"""Every task: right answers score 1, wrong ones 0 whatever they are, splits differ, the same call gives the same."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.errors import InvalidConfig
from trainer.tasks.extraction import Extraction, first_object
from trainer.tasks.reasoning import EASIEST
from trainer.tasks.registry import task_named
from trainer.tasks.tool_calls import parse_call

NAMES = [*(f"reasoning:{name}" for name in EASIEST), "reasoning:chain_sum@2", "extraction", "extraction@1",
         "tool_calls", "tool_calls@2"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
class TestTask:
    def test_right_answers_score_one_and_wrong_ones_nothing(self, name: str) -> None:
        task = task_named(name)
        assert task.name == name
        for example in task.examples("test", 8):
            assert example.task == name and task.score(example, f" {example.answer} ") == 1.0
            for wrong in ("", "]" * 3000, "(" * 3000, "{'a':", "None", example.answer[1:]):
                assert task.score(example, wrong) == 0.0, wrong

    def test_examples_are_a_function_of_the_split(self, name: str) -> None:
        task = task_named(name)
        assert task.examples("train", 5) == task.examples("train", 5) == task.examples("train", 9)[:5]
        assert task.examples("train", 20) != task.examples("test", 20)
        json.dumps([example.to_dict() for example in task.examples("validation", 3)])


def test_a_verifier_accepts_other_ways_to_say_it() -> None:
    task = task_named("extraction")
    example = task.examples("test", 1)[0]
    assert task.score(example, "Here it is: " + json.dumps(example.entry["record"], indent=1) + " done") == 1.0
    tools = task_named("tool_calls")
    call = tools.examples("test", 1)[0]
    assert tools.score(call, f"[{call.answer}]") == 1.0


def test_numbers_are_not_strings() -> None:
    task = Extraction()
    example = next(e for e in task.examples("test", 50) if "age" in e.entry["record"])
    record = {**example.entry["record"], "age": str(example.entry["record"]["age"])}
    assert task.score(example, json.dumps(record)) == 0.0


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_parsers_take_anything(text: str) -> None:
    parse_call(text)
    first_object(text)
    parse_call(f"f(a={text})")
    first_object("{" + text)


@pytest.mark.parametrize("name", ["juggling", "reasoning:chain_sum@x", "reasoning:nothing_like_it"])
def test_an_unknown_task_is_named(name: str) -> None:
    with pytest.raises(InvalidConfig, match="unknown task|no data set|level 'x' is not a whole number"):
        task_named(name).examples("train", 1)
