"""Optuna behind the sampler contract: proposes candidates, records their results, is rebuilt from stored trials.

The Optuna study lives only in memory; the coordinator's tables are the source of truth. A known candidate is never
proposed again.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterable
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from contracts.states import TrialState as OurState
from contracts.study import StudySpec, TrialFacts
from nas.samplers.base import SAMPLERS, Proposal
from search_space.space import Assignment, SearchSpace

Distributions = dict[str, BaseDistribution]
PARENTS = ":parent:"  # in the names under which Optuna's genetic algorithms keep the parents of a generation
_MAX_REPEATS = 16  # known candidates that Optuna may propose before a mutation of a known one is taken instead
_UNFINISHED = {OurState.PROPOSED, OurState.PREPARING, OurState.MEASURING, OurState.MEASURED, OurState.JUDGING}


class OptunaSampler:
    """``replay`` restores its state from the stored trials; with one seed, equal histories give equal proposals."""

    def __init__(self, spec: StudySpec, space: SearchSpace) -> None:
        self._spec, self._space = spec, space
        self._distributions: Distributions = {
            name: CategoricalDistribution(choices) for name, choices in space.parameters().items()
        }
        self._trials: dict[str, TrialFacts] = {}
        self._seen: set[str] = set()

    def tell(self, trial: TrialFacts) -> None:
        self._trials[trial.id] = trial
        self._seen.add(_key(trial.assignment))

    def replay(self, trials: Iterable[TrialFacts]) -> None:
        for trial in trials:
            self.tell(trial)

    def ask(self) -> Proposal | None:
        if len(self._seen) >= self._space.num_candidates:
            return None
        study = self._study()
        known = set(_study_attrs(study))
        for _ in range(_MAX_REPEATS):
            trial = study.ask(fixed_distributions=self._distributions)
            if _key(trial.params) not in self._seen:
                return Proposal(trial.params, self._attrs(study, trial, known))
        neighbour = self._neighbour()  # of the generation that was asked for last
        return None if neighbour is None else Proposal(neighbour, self._attrs(study, trial, known))

    def _attrs(self, study: optuna.Study, trial: optuna.Trial, known: set[str]) -> dict[str, Any]:
        """What Optuna wrote on the trial, and on the study while it was asked. A genetic algorithm keeps there which
        trials the parents of a generation are: of all that were there when it began, not those that came late."""
        new = {key: value for key, value in _study_attrs(study).items() if key not in known}
        numbers = [one.number for one in self._ordered()]
        parents = {key: [numbers[i] for i in ids] for key, ids in new.items() if PARENTS in key}
        written = study._storage.get_trial(trial._trial_id).system_attrs
        return {"trial": dict(written), **({"parents": parents} if parents else {})}

    def _study(self) -> optuna.Study:
        """A fresh in-memory study with every known trial: one code path for live use and for restarts."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # experimental samplers
            sampler = SAMPLERS.get_or_raise(self._spec.sampler)(self._spec.seed + len(self._trials), self._spec)
        directions = [objective.direction for objective in self._spec.all_objectives]
        study = optuna.create_study(
            sampler=sampler, directions=["minimize" if d == "min" else "maximize" for d in directions]
        )
        ordered = self._ordered()
        study.add_trials([frozen_trial(trial, self._spec, self._distributions) for trial in ordered])
        place = {trial.number: index for index, trial in enumerate(ordered)}  # Optuna's ids in a fresh storage
        for trial in ordered:
            for key, numbers in trial.sampler_attrs.get("parents", {}).items():
                ids = [place[number] for number in numbers if number in place]
                study._storage.set_study_system_attr(study._study_id, key, ids)
        return study

    def _ordered(self) -> list[TrialFacts]:
        return sorted(self._trials.values(), key=lambda trial: trial.number)

    def _neighbour(self) -> Assignment | None:
        """A new mutation of a known candidate, complete ones first; a random candidate if all mutations are known."""
        rng = random.Random(f"{self._spec.seed}-{len(self._seen)}")
        complete = [trial for trial in self._ordered() if trial.state is OurState.COMPLETE] or self._ordered()
        for attempt in range(1000):
            start = rng.choice(complete).assignment if complete and attempt < 500 else self._space.sample(rng)
            candidate = self._space.mutate(start, rng, num_changes=1 + attempt // 100 % 4)
            if _key(candidate) not in self._seen:
                return candidate
        return None


def frozen_trial(trial: TrialFacts, spec: StudySpec, distributions: Distributions) -> FrozenTrial:
    """A stored trial for Optuna. Only real values count: a trial that failed, broke a budget or was not worth judging
    is a failed trial there, never one with made-up values."""
    keys = [objective.metric for objective in spec.all_objectives]
    attributes = {"hilnas_trial_id": trial.id, "hilnas_state": str(trial.state), "reason": trial.reason}
    common: dict[str, Any] = {
        "params": trial.assignment, "distributions": distributions, "user_attrs": attributes,
        "system_attrs": trial.sampler_attrs.get("trial", {}),
    }  # fmt: skip
    if trial.state is OurState.COMPLETE and all(key in trial.values for key in keys):
        return create_trial(state=TrialState.COMPLETE, values=[trial.values[key] for key in keys], **common)
    state = TrialState.RUNNING if trial.state in _UNFINISHED else TrialState.FAIL
    return create_trial(state=state, **common)


def _study_attrs(study: optuna.Study) -> dict[str, Any]:
    return study._storage.get_study_system_attrs(study._study_id)


def _key(assignment: Assignment) -> str:
    return repr(sorted(assignment.items()))
