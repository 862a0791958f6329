"""A study's resources on the coordinator's machine: the block library, eager references, quality workers."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

from contracts.plan import Canary, Check
from contracts.study import QualitySpec
from foundation.measurement_lock import MeasurementLock
from foundation.workers import worker_pool
from nas.export.backends import DEFAULT_BACKEND
from nas.export.blocks import BlockSpec
from nas.export.compose import canary_of, candidate_check, measured_blocks
from nas.export.judged import export_judged
from nas.export.library import BlockLibrary
from nas.export.one_piece import export_candidate
from nas.export.reference import EagerChain
from nas.quality.contract import judge_in_worker
from search_space.arch import ArchConfig


class Workspace:
    """One per coordinator; studies share it. ``close`` ends the worker processes."""

    def __init__(self, var: Path, workers: int = 2) -> None:
        self.library = BlockLibrary(var / "library", workers)
        self._workers = workers
        self._eager = EagerChain()
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None

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
        return self._executor().submit(judge_in_worker, spec.model_dump(), arch.to_dict())

    def start_judged_piece(
        self, judge: QualitySpec, arch: ArchConfig, quantization: str, backend: str, cache_dtype: str
    ) -> Future[dict[str, Any]]:
        """As ``start_one_piece``, with the weights that were judged, which come along, and the program's quality."""
        root, fields = str(self.library.root), arch.to_dict()
        given = (judge.model_dump(), fields, quantization, backend, cache_dtype)
        return self._executor().submit(export_judged, root, *given)

    def start_one_piece(
        self, arch: ArchConfig, quantization: str, backend: str = DEFAULT_BACKEND
    ) -> Future[dict[str, Any]]:
        """{digest, check, seconds} of the complete candidate as one program."""
        fields = arch.to_dict()
        return self._executor().submit(
            export_candidate, str(self.library.root), fields, quantization, True, True, backend
        )

    def _executor(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = worker_pool(self._workers)
            return self._pool

    def close(self) -> None:
        self.library.close()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
