"""The contract of quality estimators: architecture in, score with interval out; seeded; with a key for reuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from contracts.study import QualityResult, QualitySpec
from foundation.registry import Registry
from search_space.arch import ArchConfig


class Quality(Protocol):
    """``key`` covers everything that changes a score, so that results can be reused across studies."""

    @property
    def key(self) -> str: ...

    def judge(self, arch: ArchConfig) -> QualityResult:
        """Score in 0..1, higher is better. Deterministic for equal key and architecture on one kind of device."""
        ...


ESTIMATORS: Registry[Callable[[QualitySpec], Quality]] = Registry("quality estimator")
"""Name -> (spec) -> an estimator; torch is imported when one is created."""


@ESTIMATORS.register("mechanistic")
def mechanistic(spec: QualitySpec) -> Quality:
    """Accuracy of a small proxy on synthetic tasks of recall, copying, compression and memory."""
    from nas.quality.mechanistic import MechanisticDesign

    return MechanisticDesign(spec)


def estimator(spec: QualitySpec) -> Quality:
    """The estimator named in ``spec``."""
    return ESTIMATORS.get_or_raise(spec.estimator)(spec)


def judge_in_worker(spec_fields: dict[str, Any], arch_fields: dict[str, Any]) -> dict[str, Any]:
    """One estimate in a worker process (one torch thread: two workers share two cores better than one uses both)."""
    import torch

    torch.set_num_threads(1)
    result = estimator(QualitySpec(**spec_fields)).judge(ArchConfig.from_dict(arch_fields))
    return result.model_dump()
