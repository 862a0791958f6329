"""Tools and the tasks that need them: what a call may do, what it may not, and that a solved question scores."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from foundation.errors import InvalidConfig
from trainer.tasks.agent import FAMILIES, Agent, call_in, people
from trainer.tasks.registry import task_named
from trainer.tools import python
from trainer.tools.python import PythonTool
from trainer.tools.search import NOTHING, Search

ESCAPES = {
    "open('/etc/passwd').read()": "PermissionError",
    "open('here', 'w').write('x')": "PermissionError",
    "import os; os.fork()": "PermissionError",
    "import os; os.kill(os.getppid(), 9)": "PermissionError",
    "import os; print(os.listdir('/'))": "PermissionError",
    "import socket": "Error",
    "import subprocess; subprocess.run(['id'])": "Error",
    "import posix; posix.execv('/bin/sh', ['sh'])": "PermissionError",
    "print([c for c in ().__class__.__base__.__subclasses__() if 'Popen' in c.__name__])": r"\[\]",
}


@pytest.mark.parametrize("code", ESCAPES)
def test_what_tries_to_leave_the_sandbox_is_refused(code: str) -> None:
    tool = PythonTool()
    assert re.search(ESCAPES[code], tool(code))
    assert not tool.outcomes["ok"] or "Popen" in code


def test_time_and_memory_are_limited() -> None:
    tool = PythonTool(seconds=1.0)
    assert tool("while True: pass").startswith("TimeoutError")
    assert tool("x = 'a' * 10**9") == "MemoryError"
    assert len(tool("import sys\nwhile True: sys.__stdout__.write('x' * 10000)")) <= python.MAX_OUTPUT
    assert tool.outcomes["timeout"] == 1 and tool.outcomes["memory"] == 1


def test_what_a_call_prints_is_its_answer() -> None:
    tool = PythonTool()
    assert tool("print(37*48+5)") == "1781"
    assert tool("print(round(math.sqrt(2), 3))") == "1.414"
    assert tool("1/0") == "ZeroDivisionError: division by zero"
    assert tool("print(").startswith("SyntaxError")
    assert [tool("print(random.random())") for _ in range(2)][0].startswith("NameError")
    assert tool.outcomes == {"ok": 2, "error": 4}


def test_a_machine_without_seccomp_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "sandbox.py"
    broken.write_text("import os, sys; os.write(int(sys.argv[3]), b'Function not implemented'); os._exit(0)")
    monkeypatch.setattr(python, "SANDBOX", broken)
    with pytest.raises(InvalidConfig, match=r"needs seccomp of Linux .* \(Function not implemented\)"):
        PythonTool()("print(1)")


@pytest.mark.parametrize("code", (0, 1, 2, 3, 4, 126, 127, 128, 137, 152, 255))
def test_an_exit_code_of_the_code_means_nothing_about_the_sandbox(code: int) -> None:
    tool = PythonTool()
    assert tool(f"import os\nos._exit({code})") == ("" if code == 0 else "Error")


def test_the_code_cannot_reach_the_channel_on_which_the_sandbox_reports() -> None:
    forged = (
        "import os\nfor number in range(3, 64):\n try: os.write(number, b'no seccomp')\n"
        " except OSError: pass\nprint(7)"
    )
    assert PythonTool()(forged) == "7"


def test_search_finds_passages(tmp_path: Path) -> None:
    search = Search(["The fox lives in Rome.", "The hen lives in Oslo.", "Nobody knows."])
    assert search("hen") == "The hen lives in Oslo."
    assert search('"; DROP TABLE passages; --') == search("?!") == NOTHING
    assert len(search("lives", hits=5).splitlines()) == 2
    (tmp_path / "a.txt").write_text("one fact\n\nanother fact")
    assert Search.over(tmp_path)("another") == "another fact"


def test_splits_have_people_of_their_own() -> None:
    names = [{person.name for person in people(split, 0)} for split in ("train", "validation", "test")]
    assert all(len(found) > 100 for found in names)
    assert not names[0] & names[1] and not names[0] & names[2] and not names[1] & names[2]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("level", [0, 1])
def test_a_demonstration_solves_its_question(family: str, level: int) -> None:
    """The stored turns, played through the real tools, end in an answer that scores."""
    task = Agent(family, level)
    question, *_ = task.examples("train", 1)
    turns = task.demonstrations("train", 1)
    talk = task.converse(question)
    for turn, later in zip(turns, turns[1:], strict=False):
        assert talk.reply(turn.answer) == later.history[-1][1]
        assert later.history[-2] == ("assistant", turn.answer)
    assert talk.reply(turns[-1].answer) is None
    assert task.score(question, f" {turns[-1].answer}. ") == 1.0 and task.score(question, "x") == 0.0


def test_only_a_single_whole_call_is_one() -> None:
    assert call_in('search("a b")') == ("search", "a b")
    for text in ("search(a)", 'search("a") and', 'search("a", "b")', 'eval("1")', 'search(query="a")', "12", "(" * 300):
        assert call_in(text) is None


def test_an_unknown_agent_task_is_told() -> None:
    with pytest.raises(InvalidConfig, match="unknown agent task 'sing'; known: lookup, compute, chain"):
        task_named("agent:sing")
