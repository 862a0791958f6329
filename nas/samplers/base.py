"""The sampler contract, and the table of Optuna's algorithms by name. Optuna is imported when one is created."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from contracts.study import StudySpec, TrialFacts
from foundation.registry import Registry
from search_space.space import Assignment

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

SAMPLERS: Registry[Callable[[int, StudySpec], BaseSampler]] = Registry("sampler")
"""Name -> (seed, study) -> an Optuna sampler."""


class Sampler(Protocol):
    def ask(self) -> Assignment | None:
        """A new candidate, or None when the space is exhausted."""
        ...

    def tell(self, trial: TrialFacts) -> None:
        """Records the current state of a stored trial; telling the same trial again replaces its earlier state."""
        ...
