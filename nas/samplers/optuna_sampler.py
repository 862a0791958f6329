"""Optuna behind the sampler contract: proposes candidates, is told their results, is rebuilt from stored trials.

The Optuna study lives only in memory and grows with the search; the coordinator's tables are the source of truth. A
known candidate is never proposed again.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from contracts.states import TrialState as OurState
from contracts.study import StudySpec, TrialFacts
from nas.samplers.base import SAMPLERS, Proposal
from nas.samplers.facts import (
    CONSTRAINT,
    EARLIER,
    METRICS,
    Distributions,
    constraints,
    frozen_trial,
    optuna_state,
    user_attrs,
)
from search_space.space import Assignment, SearchSpace
from search_space.space.core import key_of

PARENTS = ":parent:"  # in the names under which Optuna's genetic algorithms keep the parents of a generation
_MAX_REPEATS = 16  # known candidates that Optuna may propose before a mutation of a known one is taken instead


class OptunaSampler:
    """``replay`` restores its state from the stored trials; with one seed, equal histories give equal proposals."""

    def __init__(self, spec: StudySpec, space: SearchSpace) -> None:
        self._spec, self._space = spec, space
        self._distributions: Distributions = {
            name: CategoricalDistribution(choices) for name, choices in space.parameters().items()
        }
        self._trials: dict[int, TrialFacts] = {}  # by number
        self._earlier: list[TrialFacts] = []  # of other studies
        self._seen: set[str] = set()
        self._study: optuna.Study | None = None  # None: to be rebuilt before the next proposal
        self._places: dict[int, int] = {}  # our number -> Optuna's id
        self._open: int | None = None  # Optuna's id of a proposal that no trial was made of yet

    def tell(self, trial: TrialFacts) -> None:
        before = self._trials.get(trial.number)
        self._trials[trial.number] = trial
        self._seen.add(key_of(trial.assignment))
        if self._study is None or before is trial:
            return
        if before is None and self._is_next(trial):
            self._add(trial)
        elif before is not None and before.assignment == trial.assignment and self._can_change(trial):
            self._change(self._places[trial.number], trial)
        elif before is None or not self._is_told(trial):
            self._study = None

    def tell_earlier(self, trials: Sequence[TrialFacts]) -> None:
        if self._earlier != list(trials):
            self._earlier, self._study = list(trials), None

    def replay(self, trials: Iterable[TrialFacts]) -> None:
        for trial in sorted(trials, key=lambda one: one.number):
            self.tell(trial)

    def ask(self) -> Proposal | None:
        if len(self._seen) >= self._space.num_candidates:
            return None
        study = self.study
        study.sampler = self._algorithm()
        study._thread_local.cached_all_trials = None  # as in Study.ask
        known = set(_study_attrs(study))
        trial_id = self._open if self._open is not None else study._storage.create_new_trial(study._study_id)
        self._open = trial_id
        chosen = self._sampled(study, trial_id) or self._neighbour()
        if chosen is None:
            return None
        for name, label in chosen.items():
            distribution = self._distributions[name]
            internal = distribution.to_internal_repr(label)
            study._storage.set_trial_param(trial_id, name, internal, distribution)
        return Proposal(chosen, self._attrs(study, trial_id, known))

    @property
    def study(self) -> optuna.Study:
        """The Optuna study of all known trials."""
        if self._study is None:
            self._study = self._rebuilt()
        return self._study

    # --- asking -------------------------------------------------------------------------------------------------------

    def _algorithm(self) -> BaseSampler:
        """A new one for every proposal, seeded by the length of the history, so that a restart changes nothing."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # experimental samplers
            make = SAMPLERS.get_or_raise(self._spec.sampler)
            return make(self._spec.seed + len(self._trials), self._spec, self._space)

    def _sampled(self, study: optuna.Study, trial_id: int) -> Assignment | None:
        """A candidate that is not known, or None after a number of known ones. What an algorithm leaves to chance, as
        its first proposals, is any candidate of a list, each as likely: lists have dense and empty places."""
        rng, listing = random.Random(f"{self._spec.seed}-{len(self._seen)}"), self._space.listing
        for _ in range(_MAX_REPEATS):
            trial = study._storage.get_trial(trial_id)
            space = study.sampler.infer_relative_search_space(study, trial)
            params = study.sampler.sample_relative(study, trial, space)
            if listing is not None and not params:
                found = listing.sample(rng, self._seen)
            else:
                found = {
                    name: params[name] if name in params else self._independent(study, trial, name)
                    for name in self._distributions
                }
                found = self._space.repaired(found, rng, self._seen)
            if key_of(found) not in self._seen:
                return found
        return None

    def _independent(self, study: optuna.Study, trial: FrozenTrial, name: str) -> str:
        return str(study.sampler.sample_independent(study, trial, name, self._distributions[name]))

    def _attrs(self, study: optuna.Study, trial_id: int, known: set[str]) -> dict[str, Any]:
        """What Optuna wrote on the trial, and on the study while it was asked. A genetic algorithm keeps there which
        trials the parents of a generation are: of all that were there when it began, not those that came late."""
        new = {key: value for key, value in _study_attrs(study).items() if key not in known}
        numbers = {place: number for number, place in self._places.items()}
        parents = {key: [numbers[i] for i in ids if i in numbers] for key, ids in new.items() if PARENTS in key}
        written = study._storage.get_trial(trial_id).system_attrs
        return {"trial": dict(written), **({"parents": parents} if parents else {})}

    def _neighbour(self) -> Assignment | None:
        """A new mutation of a known candidate, complete ones first; a random candidate if all mutations are known."""
        rng = random.Random(f"{self._spec.seed}-{len(self._seen)}")
        ordered = [self._trials[number] for number in sorted(self._trials)]
        complete = [trial for trial in ordered if trial.state is OurState.COMPLETE] or ordered
        for attempt in range(1000):
            start = rng.choice(complete).assignment if complete and attempt < 500 else self._space.sample(rng)
            candidate = self._space.mutate(start, rng, num_changes=1 + attempt // 100 % 4)
            if key_of(candidate) not in self._seen:
                return candidate
        return None

    # --- telling ------------------------------------------------------------------------------------------------------

    def _is_next(self, trial: TrialFacts) -> bool:
        return trial.number > max(self._places, default=-1)

    def _can_change(self, trial: TrialFacts) -> bool:
        assert self._study is not None
        return not self._study._storage.get_trial(self._places[trial.number]).state.is_finished()

    def _is_told(self, trial: TrialFacts) -> bool:
        """Whether Optuna's finished trial already says all that this one does."""
        assert self._study is not None
        told = self._study._storage.get_trial(self._places[trial.number])
        state, values = optuna_state(trial, self._spec)
        attrs = user_attrs(trial, self._spec)
        return (told.state, told.values) == (state, values) and told.user_attrs[METRICS] == attrs[METRICS]

    def _add(self, trial: TrialFacts) -> None:
        """A trial that was just proposed takes the place of its proposal, so that ids follow numbers."""
        assert self._study is not None
        place, self._open = self._open, None
        if place is None:
            self._study.add_trial(frozen_trial(trial, self._spec, self._distributions))
            place = len(self._study._storage.get_all_trials(self._study._study_id, deepcopy=False)) - 1
        else:
            storage = self._study._storage
            for name, label in trial.assignment.items():
                internal = self._distributions[name].to_internal_repr(label)
                storage.set_trial_param(place, name, internal, self._distributions[name])
            for key, value in trial.sampler_attrs.get("trial", {}).items():
                storage.set_trial_system_attr(place, key, value)
            self._change(place, trial)
        self._places[trial.number] = place

    def _change(self, place: int, trial: TrialFacts) -> None:
        assert self._study is not None
        storage, attrs = self._study._storage, user_attrs(trial, self._spec)
        for key, value in attrs.items():
            storage.set_trial_user_attr(place, key, value)
        for key, over in constraints(attrs[METRICS], self._spec).items():
            storage.set_trial_system_attr(place, f"{CONSTRAINT}:{key}", over)
        state, values = optuna_state(trial, self._spec)
        if state is not TrialState.RUNNING:
            storage.set_trial_state_values(place, state, values)

    def _rebuilt(self) -> optuna.Study:
        """A fresh in-memory study with every known trial, as the one that grew with the search; those of other studies
        come first."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        directions = [objective.direction for objective in self._spec.all_objectives]
        study = optuna.create_study(
            sampler=optuna.samplers.RandomSampler(),
            directions=["minimize" if d == "min" else "maximize" for d in directions],
        )
        ordered = [self._trials[number] for number in sorted(self._trials)]
        for trial in self._earlier:
            frozen = frozen_trial(trial, self._spec, self._distributions, ended=True)
            frozen.set_user_attr(EARLIER, True)
            study.add_trial(frozen)
        study.add_trials([frozen_trial(trial, self._spec, self._distributions) for trial in ordered])
        first = len(self._earlier)
        self._places, self._open = {trial.number: first + index for index, trial in enumerate(ordered)}, None
        for trial in ordered:
            for key, numbers in trial.sampler_attrs.get("parents", {}).items():
                ids = [self._places[number] for number in numbers if number in self._places]
                study._storage.set_study_system_attr(study._study_id, key, ids)
        return study


def _study_attrs(study: optuna.Study) -> dict[str, Any]:
    return study._storage.get_study_system_attrs(study._study_id)
