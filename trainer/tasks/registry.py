"""Names of tasks as recipes write them: ``reasoning:gcd@2`` is reasoning-gym's gcd at level 2."""

from __future__ import annotations

from collections.abc import Callable

from foundation.errors import InvalidConfig
from foundation.registry import Registry
from trainer.tasks.agent import Agent
from trainer.tasks.base import Task
from trainer.tasks.extraction import Extraction
from trainer.tasks.reasoning import Reasoning
from trainer.tasks.tool_calls import ToolCalls

# the part of a name before its colon -> a task from the part behind it and a level
TASKS: Registry[Callable[[str, int], Task]] = Registry("task")


@TASKS.register("reasoning")
def _reasoning(name: str, level: int) -> Task:
    """reasoning:NAME, any dataset of reasoning-gym."""
    return Reasoning(name, level)


@TASKS.register("agent")
def _agent(name: str, level: int) -> Task:
    """agent:lookup, agent:compute, agent:chain: questions that take tools to answer."""
    return Agent(name, level)


@TASKS.register("extraction")
def _extraction(_: str, level: int) -> Task:
    """Values of a short text as JSON."""
    return Extraction(level)


@TASKS.register("tool_calls")
def _tool_calls(_: str, level: int) -> Task:
    """One call of the right tool with the right arguments."""
    return ToolCalls(level)


def task_named(name: str) -> Task:
    """Raises InvalidConfig for a family that is not registered, and for a level that is not a number."""
    plain, at, level = name.partition("@")
    family, _, rest = plain.partition(":")
    if family not in TASKS:
        raise InvalidConfig(f"unknown task {name!r}; known: {TASKS.known}, with :name and @level where they apply")
    if at and not level.isdecimal():
        raise InvalidConfig(f"task {name!r}: level {level!r} is not a whole number; write e.g. {plain}@2")
    return TASKS[family](rest, int(level or 0))
