"""What a trial of a study carries into Optuna: its metrics so far, their deviations, and how far budgets are broken."""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from contracts.states import TrialState as OurState
from contracts.study import StudySpec, TrialFacts
from nas.objectives import decisive_metrics, excess, finite, known_deviations, known_values
from nas.samplers.block_times import block_times

Distributions = dict[str, BaseDistribution]
METRICS, DEVIATIONS, BLOCK_TIMES = "metrics", "deviations", "block_times"
EARLIER = "earlier"  # on trials that another study had
CONSTRAINT = "constraints"  # Optuna's prefix of constraint values among system attributes
UNFINISHED = {OurState.PROPOSED, OurState.PREPARING, OurState.MEASURING, OurState.MEASURED, OurState.JUDGING}
MAY_GO_ON = UNFINISHED | {OurState.DOMINATED}  # a dominated trial is judged after all when the front moves


def user_attrs(trial: TrialFacts, spec: StudySpec) -> dict[str, Any]:
    """Everything measured or computed so far of the metrics that decide, in their units."""
    decisive = decisive_metrics(spec)
    metrics = {key: value for key, value in known_values(trial).items() if key in decisive}
    if trial.state is OurState.COMPLETE:
        metrics |= {key: value for key, value in finite(trial.values).items() if key in decisive}
    deviations = {key: value for key, value in known_deviations(trial).items() if key in metrics}
    return {
        "hilnas_trial_id": trial.id, "hilnas_state": str(trial.state), "reason": trial.reason,
        METRICS: metrics, DEVIATIONS: deviations, BLOCK_TIMES: block_times(trial, sorted(metrics)),
    }  # fmt: skip


def constraints(metrics: dict[str, float], spec: StudySpec) -> dict[str, float]:
    """Budget -> how far a known metric is over it, in its unit; 0 and below where it is met."""
    found = {}
    for key, bound in spec.all_budgets.items():
        if key in metrics:
            found[key] = excess(metrics[key], bound, spec.direction_of(key))
    return found


def optuna_state(trial: TrialFacts, spec: StudySpec, ended: bool = False) -> tuple[TrialState, list[float] | None]:
    """Only real values count: a trial that failed, broke a budget, was not worth judging or has a value that is not
    finite has none. ``ended`` where
    nothing will change any more."""
    keys = [objective.metric for objective in spec.all_objectives]
    values = finite(trial.values)
    if trial.state is OurState.COMPLETE and all(key in values for key in keys):
        return TrialState.COMPLETE, [values[key] for key in keys]
    goes_on = UNFINISHED if ended else MAY_GO_ON
    return (TrialState.RUNNING if trial.state in goes_on else TrialState.FAIL), None


def frozen_trial(
    trial: TrialFacts, spec: StudySpec, distributions: Distributions, ended: bool = False
) -> FrozenTrial:
    """A stored trial for Optuna, with what its sampler wrote on it, its metrics and its constraint values."""
    state, values = optuna_state(trial, spec, ended)
    attrs = user_attrs(trial, spec)
    return create_trial(
        state=state, values=values, params=trial.assignment, distributions=distributions, user_attrs=attrs,
        system_attrs=trial.sampler_attrs.get("trial", {}), constraints=constraints(attrs[METRICS], spec),
    )  # fmt: skip
