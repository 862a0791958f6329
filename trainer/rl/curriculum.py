"""Which tasks are played at which level: up on success, down on failure, most often where there is most to learn.

Plain data goes in and out, so that a resumed run goes on where it was.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from foundation.errors import InvalidConfig

UP, DOWN = 0.8, 0.05  # success at which a level is left
WINDOW = 48  # episodes that a level is judged by
MIN_WEIGHT = 0.05  # weight of a task that always or never succeeds
NEVER = 0.05  # success below which a task that does not rise lacks examples


@dataclass
class TaskState:
    """``recent`` are successes at ``level``; ``history`` the mean success of every round that played the task."""

    level: int = 0
    recent: list[float] = field(default_factory=list)
    history: list[float] = field(default_factory=list)

    @property
    def success(self) -> float:
        return float(np.mean(self.recent)) if self.recent else 0.5


class Curriculum:
    """``names`` are tasks as the registry knows them, without a level; ``most`` is the highest level. ``moves`` off
    plays all levels alike."""

    def __init__(
        self, names: tuple[str, ...], most: int, moves: bool = True, state: dict[str, Any] | None = None
    ) -> None:
        if not names or any("@" in name for name in names):
            raise InvalidConfig(
                "a curriculum wants tasks without levels, e.g. reasoning:gcd; it sets the levels itself"
            )
        self.most, self.moves = most, moves
        self.tasks = {name: TaskState(**(state or {}).get(name, {})) for name in names}

    def draw(self, generator: np.random.Generator, count: int) -> list[str]:
        """Names with levels. A task's weight is the variance of its success, which is what there is to learn."""
        tasks = self.tasks.values()
        weights = np.array([t.success * (1 - t.success) + MIN_WEIGHT if self.moves else 1.0 for t in tasks])
        chosen = generator.choice(len(self.tasks), size=count, p=weights / weights.sum())
        names = list(self.tasks)
        return [named(names[i], self._level(names[i], generator)) for i in chosen]

    def _level(self, name: str, generator: np.random.Generator) -> int:
        return self.tasks[name].level if self.moves else int(generator.integers(self.most + 1))

    def learn(self, successes: dict[str, list[float]]) -> None:
        """Successes of one round by name with level; every group counts, also those that were filtered."""
        by_task: dict[str, list[float]] = {}
        for full, values in successes.items():
            name, _, level = full.partition("@")
            by_task.setdefault(name, []).extend(values)
            if int(level or 0) == self.tasks[name].level:
                self.tasks[name].recent = (self.tasks[name].recent + values)[-WINDOW:]
        for name, values in by_task.items():
            self.tasks[name].history.append(round(float(np.mean(values)), 4))
            self._move(self.tasks[name])

    def _move(self, task: TaskState) -> None:
        if not self.moves or len(task.recent) < WINDOW:
            return
        step = (task.success >= UP and task.level < self.most) - (task.success <= DOWN and task.level > 0)
        if step:
            task.level, task.recent = task.level + step, []

    def stuck(self) -> list[str]:
        """Tasks whose success never rose: below NEVER in the last third of their rounds, and not above the first. They
        lack examples to begin with (cold-start SFT), not rewards."""
        return [name for name, task in self.tasks.items() if _never_rose(task.history)]

    def to_dict(self) -> dict[str, Any]:
        return {name: vars(task).copy() for name, task in self.tasks.items()}


def named(name: str, level: int) -> str:
    return f"{name}@{level}" if level else name


def _never_rose(history: list[float]) -> bool:
    third = len(history) // 3
    if not third:
        return False
    first, last = float(np.mean(history[:third])), float(np.mean(history[-third:]))
    return last < NEVER and last <= first + NEVER / 2
