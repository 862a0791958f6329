"""A study's trials in memory: loaded once, then kept up to date by what changes, so that a tick of the loop costs the
same after ten thousand finished trials as after ten."""

from __future__ import annotations

from collections.abc import Iterable

from contracts.states import TrialState
from contracts.study import StudySpec, TrialRecord
from nas.hypervolume import hypervolume
from nas.pareto import as_losses

OPEN = (TrialState.PROPOSED, TrialState.PREPARING, TrialState.MEASURING, TrialState.MEASURED, TrialState.JUDGING)
UNMEASURED = (TrialState.PROPOSED, TrialState.PREPARING, TrialState.MEASURING)
MIN_GAIN = 0.001  # of the hypervolume: less is no progress


class History:
    def __init__(self) -> None:
        self._by_state: dict[TrialState, dict[str, TrialRecord]] = {state: {} for state in TrialState}
        self._state_of: dict[str, TrialState] = {}
        self._digests: set[str] = set()
        self.num_judged = 0  # trials with a quality
        self.judged_since: bool = False  # whether a quality came since the last look at dominated trials

    def __len__(self) -> int:
        return len(self._state_of)

    def note(self, trial: TrialRecord) -> bool:
        """Keeps the trial's present form; False if it was known in this form already."""
        state = self._state_of.get(trial.id)
        before = self._by_state[state].get(trial.id) if state is not None else None
        if before == trial:
            return False
        if state is not None:
            del self._by_state[state][trial.id]
        self._by_state[trial.state][trial.id], self._state_of[trial.id] = trial, trial.state
        self._digests.add(trial.arch_digest)
        if trial.quality is not None and (before is None or before.quality is None):
            self.num_judged, self.judged_since = self.num_judged + 1, True
        return True

    def count(self, *states: TrialState) -> int:
        return sum(len(self._by_state[state]) for state in states)

    def within(self, states: Iterable[TrialState]) -> list[TrialRecord]:
        """Trials in these states, by number."""
        found = [trial for state in states for trial in self._by_state[state].values()]
        return sorted(found, key=lambda trial: trial.number)

    def all(self) -> list[TrialRecord]:
        return self.within(TrialState)

    def knows(self, arch_digest: str) -> bool:
        return arch_digest in self._digests


class Plateau:
    """Whether the front stands still: ``patience`` complete trials in a row added less than a thousandth to its
    hypervolume. Counted from the first moment that the hypervolume has a reference point."""

    def __init__(self, spec: StudySpec) -> None:
        self._patience = spec.patience
        self._keys = [objective.metric for objective in spec.all_objectives]
        self._directions = [str(objective.direction) for objective in spec.all_objectives]
        self._front: list[list[float]] = []
        self._volume, self._since_gain = 0.0, 0

    @property
    def reached(self) -> bool:
        return self._patience is not None and self._since_gain >= self._patience

    @property
    def sentence(self) -> str:
        return f"the front stood still for {self._since_gain} candidates"

    def add(self, values: dict[str, float], reference_point: dict[str, float]) -> None:
        if self._patience is None or any(key not in known for key in self._keys for known in (reference_point, values)):
            return
        point = [values[key] for key in self._keys]
        self._since_gain += 1
        if self._is_beaten(point):
            return
        self._front.append(point)
        volume = hypervolume(self._front, [reference_point[key] for key in self._keys], self._directions)
        if volume > self._volume * (1 + MIN_GAIN):
            self._volume, self._since_gain = volume, 0

    def _is_beaten(self, point: list[float]) -> bool:
        losses = as_losses([point, *self._front], self._directions)
        return bool((losses[1:] <= losses[0]).all(axis=1).any()) if self._front else False
