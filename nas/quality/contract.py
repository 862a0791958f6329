"""Estimators by name, and what a study may ask of one: options that it knows, an objective that it estimates."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from contracts.metrics import METRICS, Metric, MetricKey
from contracts.study import QualityResult, QualitySpec, StudySpec
from foundation.errors import InvalidConfig
from foundation.registry import Registry
from nas.quality.base import Estimator, EstimatorOptions
from nas.quality.estimators import Mechanistic, Params, Text
from nas.quality.inherited import Inherited
from search_space.arch import ArchConfig

__all__ = ["ESTIMATORS", "Estimator", "EstimatorOptions", "check_quality", "estimator", "judge_in_worker", "metric_of"]

ESTIMATORS: Registry[type[Estimator]] = Registry("quality estimator")
for _class in (Mechanistic, Params, Text, Inherited):
    ESTIMATORS.add(_class.name, _class)


def estimator(spec: QualitySpec) -> Estimator:
    """The estimator named in ``spec`` with its options. Raises InvalidConfig for an unknown one, or for options that it
    does not take."""
    kind = ESTIMATORS.get_or_raise(spec.estimator)
    try:
        return kind(kind.Options.model_validate(spec.options))
    except ValidationError as error:
        raise InvalidConfig(_sentence(spec.estimator, kind, error)) from None


def metric_of(spec: QualitySpec) -> Metric:
    """What the estimator's scores are."""
    return METRICS[ESTIMATORS.get_or_raise(spec.estimator).metric]


def check_quality(spec: StudySpec) -> None:
    """Raises InvalidConfig for a study whose estimator is unknown, refuses its options, or estimates another metric
    than an objective or a budget asks for."""
    metric = estimator(spec.quality).metric
    estimator(spec.quality.final)
    for key in [*(objective.metric for objective in spec.all_objectives), *spec.all_budgets]:
        asked = MetricKey.parse(key).metric
        if asked.source == "quality" and asked.name != metric:
            able = ", ".join(name for name, one in ESTIMATORS.items() if one.metric == asked.name)
            others = f", or an estimator of {asked.name} ({able})" if able else ""
            raise InvalidConfig(
                f"estimator {spec.quality.estimator!r} estimates {metric}, not {asked.name}:"
                f" give the objective {metric}{others}"
            )


def judge_in_worker(spec_fields: dict[str, Any], arch_fields: dict[str, Any]) -> dict[str, Any]:
    """One estimate in a worker process (one torch thread: two workers share two cores better than one uses both)."""
    import torch

    torch.set_num_threads(1)
    result: QualityResult = estimator(QualitySpec(**spec_fields)).judge(ArchConfig.from_dict(arch_fields))
    return result.model_dump()


def _sentence(name: str, kind: type[Estimator], error: ValidationError) -> str:
    """The first fault, and what would work."""
    fault = error.errors()[0]
    option = ".".join(map(str, fault["loc"])) or "options"
    known = ", ".join(kind.Options.model_fields) or "none"
    if fault["type"] == "extra_forbidden":
        return f"quality estimator {name!r} has no option {option!r}; known options: {known}"
    said = fault["msg"].removeprefix("Value error, ")
    said = said[0].lower() + said[1:]
    return f"quality estimator {name!r}, option {option}: {said}, got {str(fault['input'])[:80]!r}"
