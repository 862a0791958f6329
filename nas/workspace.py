"""A study's resources on the coordinator's machine: the block library, eager references, quality workers."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from contracts.plan import Canary, Check
from contracts.study import QualitySpec
from foundation.measurement_lock import MeasurementLock
from foundation.workers import Workers
from nas.export.backends import DEFAULT_BACKEND
from nas.export.blocks import BlockSpec
from nas.export.compose import canary_of, candidate_check, measured_blocks
from nas.export.judged import export_judged
from nas.export.library import BlockLibrary
from nas.export.one_piece import export_candidate
from nas.export.reference import EagerChain
from nas.judging.base import Executor
from nas.judging.executors import executor_of
from search_space.arch import ArchConfig


class Workspace:
    """One per coordinator; studies share it. ``close`` ends the worker processes."""

    def __init__(self, var: Path, workers: int = 2) -> None:
        self.library = BlockLibrary(var / "library", workers)
        self._workers = Workers(workers)
        self._eager = EagerChain()
        self._lock = threading.Lock()
        self._executors: dict[str, Executor] = {}

    def specs_of(self, arch: ArchConfig, quantization: str, backend: str = DEFAULT_BACKEND) -> list[BlockSpec]:
        """All blocks a measurement of ``arch`` needs, the canary's included."""
        return measured_blocks(arch, quantization, backend)

    def check(self, arch: ArchConfig, quantization: str, cache_dtype: str, backend: str = DEFAULT_BACKEND) -> Check:
        """Expected logits for the parity gate. One caller at a time; blocks stay in memory."""
        with self._lock, MeasurementLock().shared():
            return candidate_check(arch, quantization, cache_dtype, self._eager, backend)

    def canary(self, d_model: int, quantization: str, backend: str = DEFAULT_BACKEND) -> Canary:
        return canary_of(d_model, quantization, self.library, backend)

    def start_quality(self, spec: QualitySpec, arch: ArchConfig) -> Future[dict[str, Any]]:
        return self._executor(spec.executor).submit(spec, arch)

    def start_judged_piece(
        self, judge: QualitySpec, arch: ArchConfig, quantization: str, backend: str, cache_dtype: str
    ) -> Future[dict[str, Any]]:
        """As ``start_one_piece``, with the weights that were judged, which come along, and the program's quality."""
        root, fields = str(self.library.root), arch.to_dict()
        given = (judge.model_dump(), fields, quantization, backend, cache_dtype)
        return self._workers.submit(export_judged, root, *given)

    def start_one_piece(
        self, arch: ArchConfig, quantization: str, backend: str = DEFAULT_BACKEND
    ) -> Future[dict[str, Any]]:
        """{digest, check, seconds} of the complete candidate as one program."""
        fields = arch.to_dict()
        return self._workers.submit(
            export_candidate, str(self.library.root), fields, quantization, True, True, backend
        )

    def _executor(self, name: str) -> Executor:
        """Of the studies that name it; made when the first one judges."""
        if name not in self._executors:
            self._executors[name] = executor_of(name, self._workers)
        return self._executors[name]

    def close(self) -> None:
        self.library.close()
        for executor in self._executors.values():
            executor.close()
        self._workers.close()
