"""Executors by name."""

from __future__ import annotations

from contracts.study import QualitySpec
from foundation.workers import Workers
from nas.judging.base import Executor
from nas.judging.local import LocalExecutor
from nas.judging.ray_tasks import RayExecutor

EXECUTORS: dict[str, type[Executor]] = {"local": LocalExecutor, "ray": RayExecutor}


def executor_of(name: str, workers: Workers) -> Executor:
    return LocalExecutor(workers) if name == LocalExecutor.name else RayExecutor()


def check_executor(spec: QualitySpec) -> None:
    """Raises InvalidConfig when this machine cannot use the executor."""
    EXECUTORS[spec.executor].require()
