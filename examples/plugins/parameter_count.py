"""A quality estimator of your own: the parameter count, which many costlier proxies fail to beat. A control, not a
score to trust."""

from __future__ import annotations

import math

from pydantic import Field

from contracts.study import QualityResult
from nas.quality.contract import ESTIMATORS, Estimator, EstimatorOptions
from search_space.arch import ArchConfig
from search_space.cost import effective_params


class ParameterCountOptions(EstimatorOptions):
    """``largest``: parameters that score 1."""

    largest: float = Field(default=1e9, ge=2, le=1e15)


class ParameterCount(Estimator):
    """The logarithm of the parameters outside embedding and head, as a share of that of ``largest``."""

    name, metric = "parameter_count", "quality"
    title = "Parameters outside embedding and head, as a control for other estimators"
    Options = ParameterCountOptions

    def estimate(self, arch: ArchConfig) -> QualityResult:
        assert isinstance(self.given, ParameterCountOptions)
        score = min(1.0, math.log(effective_params(arch)) / math.log(self.given.largest))
        return QualityResult(estimator=self.name, metric=self.metric, score=score, low=score, high=score)


ESTIMATORS.add(ParameterCount.name, ParameterCount)
