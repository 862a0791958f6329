"""What every quality estimator is: a metric, checked options, a key, and a judgement of one architecture."""

from __future__ import annotations

import hashlib
import json
import time
from abc import ABC, abstractmethod
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from contracts.study import QualityResult
from search_space.arch import ArchConfig


class EstimatorOptions(BaseModel):
    """Base of an estimator's options: bounded fields with defaults, nothing else accepted."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Estimator(ABC):
    """Base of all estimators. A subclass is imported without torch: what trains is imported when it judges.

    ``metric`` names what the score is, with its unit and direction (``contracts.metrics``, source "quality").
    ``version`` changes whenever equal options come to give other scores.
    """

    name: ClassVar[str]
    metric: ClassVar[str]
    title: ClassVar[str] = ""
    version: ClassVar[int] = 1
    Options: ClassVar[type[EstimatorOptions]] = EstimatorOptions

    def __init__(self, options: EstimatorOptions | None = None) -> None:
        self.given = options or self.Options()

    @property
    def key(self) -> str:
        """Names everything that changes a score, so that results can be reused across studies."""
        fields = [self.name, self.version, self.given.model_dump(mode="json")]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:24]

    def judge(self, arch: ArchConfig) -> QualityResult:
        """Deterministic for equal key and architecture on one kind of device, apart from ``seconds``.

        Raises LeakingMixer, BelowFloor or TooGood (nas/quality/gates.py) where a score would mean nothing.
        """
        begin = time.monotonic()
        result = self.estimate(arch)
        return result.model_copy(update={"seconds": time.monotonic() - begin})

    @abstractmethod
    def estimate(self, arch: ArchConfig) -> QualityResult:
        """``judge`` without the clock."""
