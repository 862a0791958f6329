"""The sampler contract, and the table of Optuna's algorithms by name. Optuna is imported when one is created."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from contracts.study import StudySpec, TrialFacts
from foundation.registry import Registry
from search_space.space import Assignment, SearchSpace

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

SAMPLERS: Registry[Callable[[int, StudySpec, SearchSpace], BaseSampler]] = Registry("sampler")
"""Name -> (seed, study, its space) -> an Optuna sampler."""


@dataclass(frozen=True)
class Proposal:
    """A candidate, and what the sampler must find again on its trial when it is rebuilt: the generation that a genetic
    algorithm drew it for, say. Plain data."""

    assignment: Assignment
    attrs: dict[str, Any] = field(default_factory=dict)


class Sampler(Protocol):
    def ask(self) -> Proposal | None:
        """A new candidate, or None when the space is exhausted."""
        ...

    def tell(self, trial: TrialFacts) -> None:
        """Records the current state of a stored trial; telling the same trial again replaces its earlier state."""
        ...

    def tell_earlier(self, trials: Sequence[TrialFacts]) -> None:
        """All that is known from other studies, in place of what was told of them before. These trials teach, but are
        none of this study: it may propose the same candidates."""
        ...
