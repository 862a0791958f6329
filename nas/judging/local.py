"""Judgements in worker processes of this machine."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from contracts.study import QualitySpec
from foundation.workers import Workers
from nas.judging.base import Executor
from nas.quality.contract import judge_in_worker
from search_space.arch import ArchConfig


class LocalExecutor(Executor):
    """``workers`` may do other work too; whoever made them closes them."""

    name = "local"

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    @classmethod
    def require(cls) -> None:
        """Nothing: every machine has processes."""

    def submit(self, spec: QualitySpec, arch: ArchConfig) -> Future[dict[str, Any]]:
        return self._workers.submit(judge_in_worker, spec.model_dump(), arch.to_dict())

    def close(self) -> None:
        pass
