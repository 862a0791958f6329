"""Ray Train as launcher: the numbers of one process, one sentence for what failed, nothing left of it."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from trainer.data.vocabulary import VOCABULARY, Vocabulary
from trainer.engine.config import LoopConfig
from trainer.engine.launch import MODEL, Job, LaunchFailed, launch, run
from trainer.engine.processes import alone
from trainer.pipeline.records import Records

ROOT = Path(__file__).parents[2]
ARCH = ArchConfig(32, 64, (LayerConfig(GatedShortConv(3), SwiGLU(48)), LayerConfig(Gqa(2, 1, 16), SwiGLU(48))))
CONFIG = LoopConfig(steps=12, batch=4, micro_batch=1, length=16, warmup=3, save_every=3, kd_weight=0.0)
WITH_RAY = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra `ray`")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    np.where(random.random(2000) < 0.05, 0, random.integers(1, 64, 2000)).astype(np.int32).tofile(data / "train.bin")
    same = np.arange(64, dtype=np.int32)
    Vocabulary(same, same, np.arange(65), np.ones(64, np.int32), 0, 0).save(data / VOCABULARY)
    return data


@pytest.fixture(scope="module")
def one(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    run(job(data, folder), alone("cpu"))
    return folder


def job(data: Path, folder: Path, **changes: object) -> Job:
    folder.mkdir(exist_ok=True)
    return Job(ARCH.to_dict(), asdict(replace(CONFIG, **changes)), str(data), None, str(folder))  # type: ignore[arg-type]


def losses(folder: Path) -> np.ndarray:
    return np.array([row["loss"] for row in Records(folder / "curve.jsonl").read()])


@WITH_RAY
@pytest.mark.slow
def test_two_workers_of_ray_stopped_and_started_again_give_the_losses_of_one(data, one: Path, tmp_path: Path) -> None:
    class StopHere(Exception):
        pass

    def until(share: float, message: str) -> None:
        if share >= 0.4:
            raise StopHere

    told: list[float] = []
    for progress in (until, lambda share, _: told.append(share)):
        with contextlib.suppress(StopHere):
            launch(job(data, tmp_path), 2, progress, "ray")
    assert np.abs(losses(tmp_path) - losses(one)).max() <= 1e-5
    assert told and told[0] < 1
    ours, theirs = (load_file(path / MODEL / "model.safetensors") for path in (one, tmp_path))
    assert set(ours) == set(theirs)
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-4


@WITH_RAY
@pytest.mark.slow
def test_what_stops_a_worker_of_ray_comes_back_as_a_sentence(data, tmp_path: Path) -> None:
    with pytest.raises(LaunchFailed, match="^3 rows a step do not spread over 2 processes; give a multiple$"):
        launch(job(data, tmp_path, batch=3), 2, launcher="ray")


@WITH_RAY
@pytest.mark.slow
def test_a_killed_parent_leaves_nothing_of_ray(data, tmp_path: Path) -> None:
    mark, room = uuid.uuid4().hex, Path(tempfile.mkdtemp(dir="/tmp"))
    long = job(data, tmp_path, steps=100_000)
    code = (
        "import json, sys; from trainer.engine.launch import Job, launch;"
        "launch(Job(**json.loads(sys.argv[1])), 1, launcher='ray')"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(asdict(long))], cwd=ROOT,
        env={**os.environ, "HILNAS_TEST_MARK": mark, "TMPDIR": str(room)},
    )  # fmt: skip
    wait_until(lambda: len(losses(tmp_path)) >= 4 or parent.poll() is not None, 180)
    assert parent.poll() is None and len(marked(mark)) > 4
    parent.kill()
    parent.wait()
    wait_until(lambda: not marked(mark), 30)
    wait_until(lambda: not list(room.glob("ray-*")), 5)
    shutil.rmtree(room)


def marked(mark: str) -> list[int]:
    """Processes whose environment has the mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark.encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def wait_until(true: object, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if true():  # type: ignore[operator]
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen in time")


def test_what_cannot_launch_is_said(data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidConfig, match="unknown launcher 'slurm'; known: torchrun, ray"):
        launch(job(data, tmp_path), 2, launcher="slurm")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidConfig, match="Ray is not installed; `pip install 'hilnas\\[ray\\]'` brings it"):
        launch(job(data, tmp_path), 2, launcher="ray")
    assert not (tmp_path / "job.json").exists()
