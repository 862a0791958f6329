"""What every quality estimator is: a metric, checked options, a key, and a judgement of one architecture."""

from __future__ import annotations

import hashlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict

from contracts.study import QualityResult
from search_space.arch import ArchConfig

if TYPE_CHECKING:
    from torch import Tensor

    LogitsOf = Callable[[Tensor], Tensor]  # token ids [T] -> logits [T, V] of the tokens that follow


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


class CandidateEstimator(Estimator):
    """Base of estimators that judge the candidate itself and no proxy: its winners are exported with the weights that
    were judged, and judged again as programs."""

    @abstractmethod
    def save(self, arch: ArchConfig, folder: Path) -> None:
        """The judged candidate as a Hugging Face directory with its tokenizer, in an existing ``folder``."""

    @abstractmethod
    def real_tokens(self, arch: ArchConfig, count: int) -> list[int]:
        """The first tokens of the text that candidates are judged on, for parity checks."""

    @abstractmethod
    def judge_program(self, arch: ArchConfig, logits_of: LogitsOf) -> QualityResult:
        """The same judgement of the quantized program, as ``logits_of`` reads for it."""
