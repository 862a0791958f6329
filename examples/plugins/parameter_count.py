"""A quality estimator of your own: the parameter count, which many costlier proxies fail to beat. A control, not a
score to trust."""

from __future__ import annotations

import math

from contracts.study import QualityResult, QualitySpec
from nas.quality.contract import ESTIMATORS
from search_space.arch import ArchConfig
from search_space.cost import effective_params

LARGEST = 1e9  # parameters that score 1


class ParameterCount:
    """The logarithm of the parameters outside embedding and head, as a share of that of ``LARGEST``."""

    key = "parameter_count-1"

    def judge(self, arch: ArchConfig) -> QualityResult:
        score = min(1.0, math.log(effective_params(arch)) / math.log(LARGEST))
        return QualityResult(estimator="parameter_count", score=score, low=score, high=score)


@ESTIMATORS.register("parameter_count")
def parameter_count(spec: QualitySpec) -> ParameterCount:
    """Parameters outside embedding and head, as a control for other estimators."""
    return ParameterCount()
