"""Our own estimators, as studies see them: options, metric and title. What trains is imported when one judges."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field, field_validator

from contracts.study import QualityResult
from foundation.errors import InvalidConfig
from nas.quality.base import Estimator, EstimatorOptions
from nas.quality.texts import TEXTS
from search_space.arch import ArchConfig
from search_space.cost import effective_params

Rate = Annotated[float, Field(gt=0, le=1)]
MAX_RATES = 8


class ProxyOptions(EstimatorOptions):
    """Of every estimator that trains a proxy. No ``learning_rates`` means those of the candidate's family."""

    width: int = Field(default=64, ge=32, le=4096, multiple_of=32)
    seeds: int = Field(default=1, ge=1, le=20)
    learning_rates: list[Rate] = Field(default=[], max_length=MAX_RATES)


class MechanisticOptions(ProxyOptions):
    """No ``tasks`` means all six. ``steps`` are those of the run that counts."""

    tasks: list[str] = Field(default=[], max_length=20, validate_default=True)
    steps: int = Field(default=200, ge=1, le=100_000)

    @field_validator("tasks")
    @classmethod
    def _known(cls, tasks: list[str]) -> list[str]:
        if unknown := sorted(set(tasks) - set(TASK_NAMES)):
            raise ValueError(f"unknown task {unknown[0]!r}; known tasks: {', '.join(TASK_NAMES)}")
        return tasks or list(TASK_NAMES)


TASK_NAMES = (
    "in_context_recall", "noisy_recall", "fuzzy_recall", "selective_copying", "compression", "memorization"
)  # fmt: skip


class TextOptions(ProxyOptions):
    """``tokens`` of the run that counts; rows of ``length``. ``context``: the tokens of the full-size model that a row
    stands for. ``audition``: the share of the tokens after which the best learning rate goes on alone."""

    text: str = Field(default="python", max_length=120)
    tokens: int = Field(default=300_000, ge=1_000, le=10_000_000_000)
    length: int = Field(default=128, ge=16, le=8192)
    rows: int = Field(default=8, ge=1, le=1024)
    context: int = Field(default=2048, ge=16, le=1_000_000)
    audition: float = Field(default=0.25, gt=0, le=1)
    evaluation_rows: int = Field(default=128, ge=2, le=100_000)

    @field_validator("text")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            TEXTS.get_or_raise(name)
        except InvalidConfig as error:
            raise ValueError(str(error)) from None
        return name


class Params(Estimator):
    name, metric, title = "params", "log_params", "Parameter count: the control that every other estimator must beat"

    def estimate(self, arch: ArchConfig) -> QualityResult:
        score = math.log(effective_params(arch))
        return QualityResult(
            estimator=self.name, metric=self.metric, score=score, low=score, high=score, fidelity="closed form"
        )


class Mechanistic(Estimator):
    """Mechanistic architecture design (Poli et al. 2024, arXiv 2403.17844)."""

    name, metric, version = "mechanistic", "quality", 2
    title = "Accuracy of a small proxy on synthetic tasks of recall, copying, compression and memory"
    Options = MechanisticOptions

    def __init__(self, options: EstimatorOptions | None = None) -> None:
        super().__init__(options)
        assert isinstance(self.given, MechanisticOptions)
        self.options = self.given

    def estimate(self, arch: ArchConfig) -> QualityResult:
        from nas.quality.mechanistic import estimate

        return estimate(arch, self.options)


class Text(Estimator):
    """Bits per byte of unseen text, after training a narrow proxy on a little text."""

    name, metric = "text", "bits_per_byte"
    title = "Bits per byte of a narrow proxy that was trained on a little real text"
    Options = TextOptions

    def __init__(self, options: EstimatorOptions | None = None) -> None:
        super().__init__(options)
        assert isinstance(self.given, TextOptions)
        self.options = self.given

    def estimate(self, arch: ArchConfig) -> QualityResult:
        from nas.quality.text.estimate import estimate

        return estimate(arch, self.options)
