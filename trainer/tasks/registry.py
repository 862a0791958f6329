"""Names of tasks as recipes write them: ``reasoning:gcd@2`` is reasoning-gym's gcd at level 2."""

from __future__ import annotations

from collections.abc import Callable

from foundation.errors import InvalidConfig
from trainer.tasks.agent import Agent
from trainer.tasks.base import Task
from trainer.tasks.extraction import Extraction
from trainer.tasks.reasoning import Reasoning
from trainer.tasks.tool_calls import ToolCalls

# the part before a colon -> a task from the part behind it and a level
TASKS: dict[str, Callable[[str, int], Task]] = {
    "reasoning": Reasoning,
    "extraction": lambda _, level: Extraction(level),
    "tool_calls": lambda _, level: ToolCalls(level),
    "agent": Agent,
}


def task_named(name: str) -> Task:
    plain, _, level = name.partition("@")
    family, _, rest = plain.partition(":")
    if family not in TASKS or (level and not level.isdecimal()):
        raise InvalidConfig(f"unknown task {name!r}; known: {', '.join(TASKS)}, with :name and @level where they apply")
    return TASKS[family](rest, int(level or 0))
