"""The surrogate sampler of a study: its objectives and budgets as axes, its space as arrays."""

from __future__ import annotations

from functools import lru_cache, partial

from contracts.metrics import MetricKey
from contracts.study import Objective, StudySpec
from nas.front import given_reference
from nas.samplers.surrogate.metric_models import Axis, MetricModels, closed_form_model
from nas.samplers.surrogate.models import AdditiveModel
from nas.samplers.surrogate.sampler import SurrogateSampler
from nas.samplers.surrogate.structure import Structure
from search_space.arch import ArchConfig
from search_space.cost import closed_form
from search_space.space import SearchSpace

KEPT_SPACES = 16


def surrogate_of(seed: int, spec: StudySpec, space: SearchSpace) -> SurrogateSampler:
    axes, structure = axes_of(spec), structure_of(space)
    return SurrogateSampler(structure, axes, models_of(spec, space), seed, num_startup(spec))


def models_of(spec: StudySpec, space: SearchSpace) -> MetricModels:
    axes = axes_of(spec)
    exact = {
        axis.key: _exact(space, axis.key, spec.quantization, spec.cache_dtype)
        for axis in axes if axis.source == "closed_form"
    }  # fmt: skip
    return MetricModels(structure_of(space), axes, exact)


def axes_of(spec: StudySpec) -> list[Axis]:
    """The objectives in order, then the budgets on other metrics."""
    bounds = spec.all_budgets
    objectives = {objective.metric: objective for objective in spec.all_objectives}
    return [_axis(key, objectives.get(key), bounds.get(key)) for key in dict.fromkeys([*objectives, *bounds])]


def num_startup(spec: StudySpec) -> int:
    """Complete candidates before models decide: few, as the additive models need no more than there are blocks."""
    return max(4, min(10, spec.max_trials // 4))


def _axis(key: str, objective: Objective | None, bound: float | None) -> Axis:
    metric = MetricKey.parse(key).metric
    sign = -1.0 if (objective.direction if objective else metric.direction) == "max" else 1.0
    reference = given_reference(objective) if objective else None
    return Axis(key, metric.source, sign, objective is not None, bound, metric.unit == "tok/s", reference)


@lru_cache(maxsize=KEPT_SPACES)
def structure_of(space: SearchSpace) -> Structure:
    """Kept, as is the next: making arrays and closed-form models takes longer than a proposal."""
    return Structure(space)


@lru_cache(maxsize=8 * KEPT_SPACES)
def _exact(space: SearchSpace, key: str, quantization: str, cache_dtype: str) -> AdditiveModel:
    parsed = MetricKey.parse(key)
    return closed_form_model(structure_of(space), partial(_cost, parsed, quantization, cache_dtype))


def _cost(key: MetricKey, quantization: str, cache_dtype: str, arch: ArchConfig) -> float:
    return closed_form(arch, key.metric.name, key.context, quantization, cache_dtype)
