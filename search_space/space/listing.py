"""The candidates of a space that is limited to a list, as rows of choice numbers."""

from __future__ import annotations

import random
from collections.abc import Container, Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from search_space.arch import ArchConfig
from search_space.space.core import Assignment, SearchSpace, key_of


class Listing:
    """``rows`` [N, P] hold the number of each parameter's choice, in the order of the list and of the parameters.
    Distances are numbers of parameters that differ."""

    def __init__(self, space: SearchSpace, listed: Sequence[Assignment]) -> None:
        self.assignments = listed
        self._space = space
        self._numbers = [
            (name, {label: at for at, label in enumerate(labels)}) for name, labels in space.parameters().items()
        ]
        self.keys = {key_of(one): at for at, one in enumerate(listed)}
        self.rows = np.array([self._row(one) for one in listed], dtype=np.int16).reshape(len(listed), -1)

    def __len__(self) -> int:
        return len(self.assignments)

    def __contains__(self, assignment: Mapping[str, str]) -> bool:
        return key_of(assignment) in self.keys

    @cached_property
    def archs(self) -> list[ArchConfig]:
        """Every listed architecture, in the order of the list."""
        return [self._space.relaxed(one)[0] for one in self.assignments]

    def distances(self, assignment: Mapping[str, str]) -> NDArray[np.int64]:
        """[N] to every listed candidate."""
        differ = self.rows != np.array(self._row(assignment), dtype=np.int16)
        return np.asarray(differ.sum(axis=1), dtype=np.int64)

    def nearest(self, assignment: Mapping[str, str], rng: random.Random, avoid: Container[str] = ()) -> Assignment:
        """The nearest candidate whose key is not in ``avoid``, or the nearest of all if every key is; ``rng`` decides
        between equally near ones."""
        free = self._free(avoid)
        distances = self.distances(assignment)[free]
        return dict(self.assignments[rng.choice(free[distances == distances.min()].tolist())])

    def sample(self, rng: random.Random, avoid: Container[str] = ()) -> Assignment:
        """Any candidate whose key is not in ``avoid``, each as likely; any of all if every key is."""
        return dict(self.assignments[rng.choice(self._free(avoid).tolist())])

    def _free(self, avoid: Container[str]) -> NDArray[np.int64]:
        free = [at for key, at in self.keys.items() if key not in avoid]
        return np.array(free or range(len(self)), dtype=np.int64)

    def _row(self, assignment: Mapping[str, str]) -> list[int]:
        return [numbers.get(assignment.get(name, ""), -1) for name, numbers in self._numbers]
