"""The surrogate sampler of a study: its objectives and budgets as axes, its space as arrays."""

from __future__ import annotations

from contracts.metrics import parse_metric
from contracts.study import StudySpec
from nas.samplers.surrogate.metric_models import Axis, MetricModels
from nas.samplers.surrogate.sampler import SurrogateSampler
from nas.samplers.surrogate.structure import Structure
from search_space.arch import ArchConfig
from search_space.cost import closed_form
from search_space.space import SearchSpace

_PREPARED: dict[tuple[int, str], tuple[SearchSpace, MetricModels, Structure]] = {}
MAX_PREPARED = 8


def surrogate_of(seed: int, spec: StudySpec, space: SearchSpace) -> SurrogateSampler:
    axes = axes_of(spec)
    models, structure = _prepared(spec, space, axes)
    return SurrogateSampler(structure, axes, models, seed, num_startup(spec))


def axes_of(spec: StudySpec) -> list[Axis]:
    """The objectives in order, then the budgets on other metrics."""
    bounds = spec.all_budgets
    directions = {objective.metric: str(objective.direction) for objective in spec.all_objectives}
    return [_axis(spec, key, directions.get(key), bounds.get(key)) for key in dict.fromkeys([*directions, *bounds])]


def num_startup(spec: StudySpec) -> int:
    """Complete candidates before models decide: few, as the additive models need no more than there are blocks."""
    return max(4, min(10, spec.max_trials // 4))


def _axis(spec: StudySpec, key: str, direction: str | None, bound: float | None) -> Axis:
    metric, context = parse_metric(key)

    def cost(arch: ArchConfig) -> float:
        return closed_form(arch, metric.name, context, spec.quantization, spec.cache_dtype)

    return Axis(
        key, metric.source, -1.0 if (direction or metric.direction) == "max" else 1.0, direction is not None, bound,
        metric.unit == "tok/s", cost if metric.source == "closed_form" else None,
    )  # fmt: skip


def _prepared(spec: StudySpec, space: SearchSpace, axes: list[Axis]) -> tuple[MetricModels, Structure]:
    """Kept per space object: arrays and closed-form models take longer to make than a proposal."""
    key = (id(space), repr([(axis.key, axis.bound) for axis in axes]) + spec.quantization + spec.cache_dtype)
    if key not in _PREPARED:
        while len(_PREPARED) >= MAX_PREPARED:
            _PREPARED.pop(next(iter(_PREPARED)))
        structure = Structure(space)
        _PREPARED[key] = (space, MetricModels(structure, axes), structure)
    _, models, structure = _PREPARED[key]
    return models, structure
