"""Function calls of BFCL v4 (Berkeley Function Calling Leaderboard) with the package's data and its own checker.

The package pins numpy 1.26 and twenty service clients, none of which the checker needs: it is installed without them.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from foundation.errors import InvalidConfig
from trainer.tasks.base import Example, Split

PACKAGE = "bfcl-eval==2026.3.23"
CATEGORIES = ("simple_python", "multiple", "parallel", "parallel_multiple")
Call = dict[str, dict[str, Any]]  # function -> arguments


def tasks(category: str = "") -> list[Bfcl]:
    """All categories, or the one named. Raises InvalidConfig for another name or without the package."""
    if category and category not in CATEGORIES:
        raise InvalidConfig(f"unknown BFCL category {category!r}; known: {', '.join(CATEGORIES)}")
    _data_folder()
    return [Bfcl(name) for name in CATEGORIES if category in ("", name)]


@dataclass(frozen=True)
class Bfcl:
    category: str

    @property
    def name(self) -> str:
        return f"bfcl:{self.category}"

    def examples(self, split: Split, count: int) -> list[Example]:
        """``count`` of the category, evenly spread. A benchmark is for testing only."""
        if split != "test":
            raise InvalidConfig(f"{self.name} has no {split} split: nothing is trained on a benchmark")
        entries, truths = _lines(f"BFCL_v4_{self.category}.json"), _answers(self.category)
        step = max(1.0, len(entries) / count)
        chosen = [entries[int(index * step)] for index in range(min(count, len(entries)))]
        return [self._example(entry, truths[entry["id"]]) for entry in chosen]

    def _example(self, entry: dict[str, Any], truth: list[Any]) -> Example:
        wish = "\n".join(message["content"] for message in entry["question"][0] if message["role"] == "user")
        system = "Tools: " + json.dumps(entry["function"])
        plain = {"id": entry["id"], "functions": entry["function"], "truth": truth}
        return Example(self.name, wish, _written(truth), plain, system=system, source=PACKAGE)

    def score(self, example: Example, answer: str) -> float:
        """1 when the checker accepts the calls, in any order."""
        calls = parse_calls(answer)
        if not calls:
            return 0.0
        check, language = _checker()
        try:
            entry = example.entry
            verdict = check(entry["functions"], calls, entry["truth"], language.PYTHON, self.category, "ours")
            return float(verdict["valid"])
        except Exception:  # the checker indexes into whatever a model said
            return 0.0


def parse_calls(text: str) -> list[Call]:
    """Calls written as Python (``[f(a=1), g(b="x")]``, one without brackets, or one a line) or as JSON objects with a
    name and arguments, bare, fenced or in ``<tool_call>`` tags; none when any part is something else."""
    plain = re.sub(r"</?tool_call>|<\|tool_call_(?:start|end)\|>|```\w*", "\n", text).strip()
    if not plain:
        return []
    try:
        return _python(plain) if plain.lstrip("[ \n")[:1] != "{" else _json(plain)
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError):
        return []


def _python(text: str) -> list[Call]:
    body = ast.parse(text).body
    found = [statement.value for statement in body if isinstance(statement, ast.Expr)]
    if len(found) != len(body):
        raise ValueError("not calls alone")
    return [_call(node) for value in found for node in (value.elts if isinstance(value, ast.List) else [value])]


def _call(node: ast.expr) -> Call:
    if not isinstance(node, ast.Call) or node.args:
        raise ValueError("not a call with keywords")
    return {ast.unparse(node.func): {str(k.arg): ast.literal_eval(k.value) for k in node.keywords}}


def _json(text: str) -> list[Call]:
    """One value after another, as tags leave them."""
    decoder, at, calls = json.JSONDecoder(), 0, []
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        calls += [_named(item) for item in (value if isinstance(value, list) else [value])]
        at += len(text[at:]) - len(text[at:].lstrip(" \n\t,;"))
    return calls


def _named(item: dict[str, Any]) -> Call:
    arguments = item["arguments"] if "arguments" in item else item["parameters"]
    return {item["name"]: json.loads(arguments) if isinstance(arguments, str) else dict(arguments)}


def _written(truth: list[Any]) -> str:
    """The first accepted value of each argument, as Python."""
    calls = [(name, arguments) for call in truth for name, arguments in call.items()]
    return "[" + ", ".join(
        f"{name}({', '.join(f'{key}={_first(options)!r}' for key, options in arguments.items() if options[0] != '')})"
        for name, arguments in calls
    ) + "]"  # fmt: skip


def _first(options: list[Any]) -> Any:
    """Objects hold options in their turn."""
    return _settled(options[0])


def _settled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _first(options) for key, options in value.items() if options[0] != ""}
    return [_settled(item) for item in value] if isinstance(value, list) else value


def _data_folder() -> Path:
    found = find_spec("bfcl_eval")
    if found is None or not found.submodule_search_locations:
        raise InvalidConfig(f"BFCL is not installed; `.venv/bin/pip install --no-deps {PACKAGE}` brings it")
    return Path(found.submodule_search_locations[0]) / "data"


@cache
def _lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (_data_folder() / name).read_text().splitlines()]


def _answers(category: str) -> dict[str, list[Any]]:
    return {row["id"]: row["ground_truth"] for row in _lines(f"possible_answer/BFCL_v4_{category}.json")}


@cache
def _checker() -> tuple[Any, Any]:
    """``ast_checker`` and its languages; the table of models it looks names up in would import every service client."""
    stub = ModuleType("bfcl_eval.constants.model_config")
    vars(stub)["MODEL_CONFIG_MAPPING"] = defaultdict(lambda: SimpleNamespace(underscore_to_dot=False))
    sys.modules.setdefault(stub.__name__, stub)
    from bfcl_eval.constants.enums import Language
    from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker

    return ast_checker, Language
