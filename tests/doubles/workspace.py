"""A workspace without torch work, and studies small enough to run to their end in a moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from contracts.plan import Cache, Check, Plan, Protocol, Step
from contracts.states import TrialState
from contracts.study import QualityResult, StudySpec
from foundation.errors import ExportFailed
from nas import confirmation, plans
from nas.store import StudyStore
from nas.study import Study
from search_space.arch import ArchConfig

CHECK = Check(
    tokens=[1], chunks=[1], probe_ids=[0], expected=[[0.0]], expected_argmax=[0], max_abs_error=1.0
)  # fmt: skip


class FakeWorkspace:
    """Everything is compiled at once; quality grows with the share of attention layers."""

    def __init__(
        self, quality: Callable[[ArchConfig], float] = lambda arch: 0.5, export: str = "works", metric: str = "quality"
    ) -> None:
        self.quality, self.export, self.metric, self.judged = quality, export, metric, list[str]()
        self.library = SimpleNamespace(start=self._start, ready=lambda specs: True, path=lambda digest: Path(digest))
        self.compiled: set[str] = set()

    def _start(self, specs: Sequence[str]) -> list[Any]:
        self.compiled |= set(specs)
        return []

    def specs_of(self, arch: ArchConfig, quantization: str, backend: str) -> list[str]:
        return [f"{backend} {arch.digest}"]

    def check(self, arch: ArchConfig, quantization: str, cache_dtype: str, backend: str) -> Check:
        return CHECK

    def canary(self, d_model: int, quantization: str, backend: str) -> None:
        return None

    def start_quality(self, spec: Any, arch: ArchConfig) -> Future[dict[str, Any]]:
        self.judged.append(arch.digest)
        score = self.quality(arch)
        found = QualityResult(estimator="fake", metric=self.metric, score=score, low=score, high=score)
        return done(found.model_dump())

    def start_one_piece(self, arch: ArchConfig, quantization: str, backend: str) -> Future[dict[str, Any]]:
        if self.export == "fails":
            return done(ExportFailed("lower", "no"))
        return done({"digest": "ee" * 32, "check": CHECK.model_dump(), "seconds": 1.0})

    def start_judged_piece(self, spec: Any, arch: ArchConfig, *form: str) -> Future[dict[str, Any]]:
        quality = QualityResult(estimator="fake", metric="bits_per_byte", score=2.0, low=1.9, high=2.1)
        told = self.start_one_piece(arch, *form[:2]).result()
        return done({**told, "weights": f"{arch.digest}.tar", "quality": quality.model_dump()})


def done(outcome: Any) -> Future[dict[str, Any]]:
    future: Future[dict[str, Any]] = Future()
    future.set_exception(outcome) if isinstance(outcome, Exception) else future.set_result(outcome)
    return future


@pytest.fixture(autouse=True)
def no_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains name their architecture instead of compiled blocks."""
    chain = lambda arch, *_: [Step(block=arch.digest, role="model", name="model")]  # noqa: E731
    monkeypatch.setattr(plans, "chain_of", chain)
    monkeypatch.setattr(plans, "build_plan", plan_of)
    monkeypatch.setattr(
        confirmation, "one_piece_chain", lambda arch, digest: [Step(block=digest, role="model", name="m")]
    )


def plan_of(
    arch: ArchConfig,
    chain: list[Step],
    protocol: Protocol,
    *,
    cache_dtype: str,
    check: Check,
    canary: None,
    backend: str,
) -> Plan:
    return Plan(
        id=arch.digest[:12], chain=chain, cache=Cache(capacity=2048), hidden_size=arch.d_model,
        vocab_size=arch.vocab_size, protocol=protocol, tokens=[1], check=check, backend=backend,
    )  # fmt: skip


def spec_of(*objectives: str, **changes: Any) -> StudySpec:
    keys = objectives or ("decode_ms@256", "memory_bytes@256")
    return StudySpec.model_validate(
        {"name": "study", "space_options": {"depth": 2, "d_model": 64, "vocab_size": 256}, "sampler": "random",
         "protocol": "quick", "objectives": [{"metric": key} for key in keys], "max_trials": 6, "confirm": 0, **changes}
    )  # fmt: skip


def run(store: StudyStore, workspace: FakeWorkspace | None = None) -> Counter[TrialState]:
    Study(store, workspace or FakeWorkspace()).run()  # type: ignore[arg-type]
    return Counter(trial.state for trial in store.trials())
