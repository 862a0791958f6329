"""Optuna's samplers under the names that studies use: one function each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contracts.study import StudySpec
from nas.samplers.base import SAMPLERS
from search_space.space import SearchSpace

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


@SAMPLERS.register("surrogate")
def surrogate(seed: int, spec: StudySpec, space: SearchSpace) -> BaseSampler:
    """Costs added up over blocks, a Gaussian process for quality, and the largest expected gain of the front."""
    from nas.samplers.surrogate.of_study import surrogate_of

    return surrogate_of(seed, spec, space)


@SAMPLERS.register("gp")
def gp(seed: int, spec: StudySpec, space: SearchSpace) -> BaseSampler:
    """Gaussian process with expected hypervolume improvement."""
    from optuna.samplers import GPSampler

    return GPSampler(seed=seed, n_startup_trials=num_startup_trials(spec), warn_independent_sampling=False)


@SAMPLERS.register("nsga2")
def nsga2(seed: int, spec: StudySpec, space: SearchSpace) -> BaseSampler:
    """Genetic algorithm by dominance and crowding."""
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(seed=seed, population_size=population_size(spec))


@SAMPLERS.register("nsga3")
def nsga3(seed: int, spec: StudySpec, space: SearchSpace) -> BaseSampler:
    """Genetic algorithm by dominance and reference points, for many objectives."""
    from optuna.samplers import NSGAIIISampler

    return NSGAIIISampler(seed=seed, population_size=population_size(spec))


@SAMPLERS.register("tpe")
def tpe(seed: int, spec: StudySpec, space: SearchSpace) -> BaseSampler:
    """Multivariate tree-structured Parzen estimator."""
    from optuna.samplers import TPESampler

    return TPESampler(seed=seed, multivariate=True, n_startup_trials=num_startup_trials(spec))


@SAMPLERS.register("random")
def random(seed: int, spec: StudySpec, space: SearchSpace) -> BaseSampler:
    """Independent draws."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


def population_size(spec: StudySpec) -> int:
    """Eight generations, of 8 to 50 candidates: crossings count only from the second one on."""
    return max(8, min(50, spec.max_trials // 8))


def num_startup_trials(spec: StudySpec) -> int:
    return max(8, min(16, spec.max_trials // 3))
