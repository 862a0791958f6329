"""One contract over everything that runs judgements: equal results, pauses for measurements, lost workers."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from contracts.study import QualitySpec
from foundation.errors import InvalidConfig, WorkerLost
from foundation.measurement_lock import MeasurementLock
from foundation.workers import Workers
from nas.judging.base import Executor
from nas.judging.executors import EXECUTORS, check_executor, executor_of
from nas.judging.ray_tasks import RayExecutor, num_gpus_of
from nas.quality.contract import ESTIMATORS, estimator
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv

ARCH = ArchConfig(32, 64, (LayerConfig(GatedShortConv(3), SwiGLU(32)),))
WAIT_S = 120.0
PLUGIN = '''
"""Estimators that lose their worker: ``deadly`` as often as its option says, ``patient`` waits for its turn."""

import os
from pathlib import Path

from contracts.study import QualityResult
from foundation.errors import HilnasError
from foundation.measurement_lock import MeasurementLock
from nas.quality.base import EstimatorOptions
from nas.quality.contract import ESTIMATORS, Estimator


class DeadlyOptions(EstimatorOptions):
    folder: str
    deaths: int = 0


class Deadly(Estimator):
    name, metric, title, Options = "deadly", "log_params", "Ends its process", DeadlyOptions

    def estimate(self, arch):
        begun = len(list(Path(self.given.folder).iterdir()))
        Path(self.given.folder, str(begun)).touch()
        if begun < self.given.deaths:
            os._exit(1)
        with MeasurementLock().shared():
            return QualityResult(estimator="deadly", metric="log_params", score=1.0, low=1.0, high=1.0)


class Refusing(Estimator):
    name, metric, title = "refusing", "log_params", "Raises"

    def estimate(self, arch):
        raise HilnasError("this candidate has no score")


ESTIMATORS.add("deadly", Deadly)
ESTIMATORS.add("refusing", Refusing)
'''


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Estimators that only the workers know by their plugin file, and a measurement lock of this module."""
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "deadly.py").write_text(PLUGIN)
    given = {"HILNAS_PLUGINS": str(folder / "deadly.py"), "HILNAS_MEASUREMENT_LOCK": str(folder / "lock"),
             "HILNAS_VAR": str(folder / "var")}  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, ESTIMATORS.temporarily({}):
        for name, value in given.items():
            patch.setenv(name, value)
        yield folder


class ExecutorContract:
    name: str

    @pytest.fixture(scope="class")
    def executor(self, plugin: Path) -> Iterator[Executor]:
        workers = Workers(2)
        made = executor_of(self.name, workers)
        yield made
        made.close()
        workers.close()

    def judged(self, executor: Executor, estimator: str, **options: Any) -> dict[str, Any]:
        spec = QualitySpec(estimator=estimator, options=options, executor=self.name)  # type: ignore[arg-type]
        return executor.submit(spec, ARCH).result(WAIT_S)

    def test_the_result_is_that_of_this_process(self, executor: Executor) -> None:
        found = self.judged(executor, "params")
        here = estimator(QualitySpec(estimator="params")).judge(ARCH).model_dump()
        assert {**found, "seconds": 0.0} == {**here, "seconds": 0.0}

    def test_a_seeded_estimate_is_the_same_everywhere(self, executor: Executor) -> None:
        tiny = {"steps": 30, "width": 32, "tasks": ["memorization"], "learning_rates": [1e-2]}
        with pytest.raises(InvalidConfig, match="the proxy scores .* it learned nothing that counts"):
            self.judged(executor, "mechanistic", **{**tiny, "learning_rates": [1e-9]})
        found = self.judged(executor, "mechanistic", **tiny)
        here = estimator(QualitySpec(estimator="mechanistic", options=tiny)).judge(ARCH)
        assert found["score"] == pytest.approx(here.score, abs=0.02)

    def test_several_are_judged_side_by_side(self, executor: Executor) -> None:
        futures = [executor.submit(QualitySpec(estimator="params"), ARCH) for _ in range(5)]
        assert len({future.result(WAIT_S)["score"] for future in futures}) == 1

    def test_what_judging_raises_is_what_the_caller_reads(self, executor: Executor) -> None:
        with pytest.raises(Exception, match="^this candidate has no score$"):
            self.judged(executor, "refusing")

    def test_a_lost_worker_is_replaced_once(self, executor: Executor, tmp_path: Path) -> None:
        assert self.judged(executor, "deadly", folder=str(tmp_path), deaths=1)["score"] == 1.0
        assert len(list(tmp_path.iterdir())) == 2

    def test_a_candidate_that_loses_two_workers_fails_alone(self, executor: Executor, tmp_path: Path) -> None:
        spec = QualitySpec(estimator="deadly", options={"folder": str(tmp_path), "deaths": 9})
        deadly, other = executor.submit(spec, ARCH), executor.submit(QualitySpec(estimator="params"), ARCH)
        with pytest.raises(WorkerLost, match="worker.* was lost twice"):
            deadly.result(WAIT_S)
        assert other.result(WAIT_S)["score"] > 0
        assert len(list(tmp_path.iterdir())) == 2
        assert self.judged(executor, "params")["score"] > 0, "the next one finds a worker"

    def test_judging_waits_for_a_measurement(self, executor: Executor, tmp_path: Path) -> None:
        with MeasurementLock().exclusive():
            spec = QualitySpec(estimator="deadly", options={"folder": str(tmp_path)})
            future, deadline = executor.submit(spec, ARCH), time.monotonic() + WAIT_S
            while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
                time.sleep(0.02)
            with pytest.raises(TimeoutError):
                future.result(0.3)
        assert future.result(WAIT_S)["score"] == 1.0


class TestLocal(ExecutorContract):
    name = "local"


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra `ray`")
class TestRay(ExecutorContract):
    name = "ray"


def test_executors_are_those_that_a_study_may_name() -> None:
    for name in EXECUTORS:
        assert QualitySpec(executor=name).executor == name  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="Input should be 'local' or 'ray'"):
        QualitySpec(executor="slurm")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="num_gpus is for the executor ray, got executor local"):
        QualitySpec(num_gpus=0.5)


@pytest.mark.parametrize(
    ("resources", "asked", "taken"),
    [({"CPU": 2.0}, None, 0), ({"CPU": 2.0}, 0.5, 0), ({"GPU": 1.0}, None, 0.25), ({"GPU": 8.0}, 2, 2),
     ({"GPU": 1.0}, 0, 0)],
)
def test_a_task_takes_a_share_of_a_gpu_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, resources: dict[str, float], asked: float | None, taken: float
) -> None:
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(cluster_resources=lambda: resources))
    assert num_gpus_of(QualitySpec(executor="ray", num_gpus=asked)) == taken


def test_ray_that_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    check_executor(QualitySpec())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidConfig, match=r"needs the package ray: `pip install 'hilnas\[ray\]'` brings it"):
        check_executor(QualitySpec(executor="ray"))
    with pytest.raises(InvalidConfig):
        RayExecutor.require()
    assert "RAY_ADDRESS" not in os.environ
