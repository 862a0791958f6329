"""A stored study as an Optuna storage, for optuna-dashboard and notebooks."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution

from contracts.study import StudySpec, TrialFacts
from foundation.errors import InvalidConfig
from nas.samplers.facts import Distributions, frozen_trial
from search_space.space import space


def write_storage(study: dict[str, Any], trials: list[dict[str, Any]], url: str) -> int:
    """Writes every trial under the study's name and id; raises InvalidConfig if that study already exists."""
    spec = StudySpec(**study["spec"])
    choices = space(spec.space, spec.space_options).parameters()
    distributions: Distributions = {name: CategoricalDistribution(values) for name, values in choices.items()}
    directions: list[Any] = ["minimize" if o.direction == "min" else "maximize" for o in spec.all_objectives]
    name = f"{spec.name} {study['id']}"
    try:
        target = optuna.create_study(study_name=name, storage=url, directions=directions)
    except optuna.exceptions.DuplicatedStudyError:
        raise InvalidConfig(f"{url} already holds {name!r}; choose another --out") from None
    target.set_metric_names([o.metric for o in spec.all_objectives])
    target.add_trials([frozen_trial(TrialFacts(**trial), spec, distributions, ended=True) for trial in trials])
    return len(trials)
