"""The training loop: equal losses however many processes, bit-exact after any end, a bad step never kept."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from search_space.modeling.model import build_model
from trainer.data.packing import PackedStream
from trainer.data.vocabulary import VOCABULARY, Vocabulary
from trainer.engine import checkpoint
from trainer.engine.config import LoopConfig
from trainer.engine.evaluate import bits_per_byte
from trainer.engine.launch import MODEL, Job, LaunchFailed, launch, run
from trainer.engine.processes import alone
from trainer.engine.train import LossNotFinite
from trainer.pipeline.records import Records
from trainer.teacher.topk_cache import MIN_LOGPROB, CacheSpec, TopKCache

ROOT = Path(__file__).parents[2]
ARCH = ArchConfig(32, 64, (LayerConfig(GatedShortConv(3), SwiGLU(48)), LayerConfig(Gqa(2, 1, 16), SwiGLU(48))))
CONFIG = LoopConfig(steps=20, batch=4, micro_batch=1, length=16, warmup=3, save_every=5, kd_weight=0.5)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Data of 2,000 tokens in documents of about 20, and a teacher that spoke about two of three."""
    root = tmp_path_factory.mktemp("pretrain")
    data, teacher = root / "data", root / "teacher"
    data.mkdir()
    random = np.random.default_rng(0)
    tokens = np.where(random.random(2000) < 0.05, 0, random.integers(1, 8, 2000) ** 2 % 64).astype(np.int32)
    tokens.tofile(data / "train.bin")
    identity = np.arange(64, dtype=np.int32)
    Vocabulary(identity, identity, np.arange(65), np.ones(64, np.int32), 0, 0).save(data / VOCABULARY)
    logits = torch.from_numpy(random.normal(size=(2000, 64))).float()
    values, ids = logits.log_softmax(-1).topk(8)
    values[::3] = MIN_LOGPROB
    spec = CacheSpec("test", 2000, 64, 8, 300)
    TopKCache(teacher / "cache", spec).fill(lambda a, b: (values[a:b], ids[a:b]))
    return data, teacher


def job(folders: tuple[Path, Path], folder: Path, **changes: object) -> Job:
    folder.mkdir(exist_ok=True)
    config = asdict(replace(CONFIG, **changes))  # type: ignore[arg-type]
    return Job(ARCH.to_dict(), config, str(folders[0]), str(folders[1]), str(folder))


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in Records(folder / "curve.jsonl").read()]


@pytest.fixture(scope="module")
def one(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process, start to end."""
    folder = tmp_path_factory.mktemp("one")
    run(job(folders, folder), alone("cpu"))
    return folder


def test_it_learns_and_leaves_a_model_that_transformers_load(one: Path) -> None:
    from transformers import AutoModelForCausalLM

    curve = losses(one)
    assert len(curve) == 20
    assert curve[-1] < curve[0] - 0.1
    assert AutoModelForCausalLM.from_pretrained(one / MODEL).config.to_arch() == ARCH
    assert checkpoint.steps(one / "checkpoints") == [15, 20]


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(folders, one: Path, tmp_path: Path) -> None:
    launch(job(folders, tmp_path), 2)
    differences = np.abs(np.array(losses(tmp_path)) - np.array(losses(one)))
    assert len(differences) == 20
    assert differences.max() <= 1e-5
    ours, theirs = (load_file(path / MODEL / "model.safetensors") for path in (one, tmp_path))
    assert set(ours) == set(theirs)
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-4


def test_how_rows_are_divided_does_not_change_the_losses(folders, one: Path, tmp_path: Path) -> None:
    run(job(folders, tmp_path, micro_batch=4, save_every=50), alone("cpu"))
    assert np.abs(np.array(losses(tmp_path)) - np.array(losses(one))).max() <= 1e-5


def test_a_killed_run_goes_on_bit_by_bit(folders, one: Path, tmp_path: Path) -> None:
    slow = job(folders, tmp_path)
    (tmp_path / "job.json").write_text(json.dumps(asdict(slow)))
    process = subprocess.Popen([sys.executable, "-m", "trainer.engine.launch", str(tmp_path / "job.json")], cwd=ROOT)
    while len(losses(tmp_path)) < 7 and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (tmp_path / "checkpoints" / "step-00000099.partial").mkdir(parents=True, exist_ok=True)
    run(slow, alone("cpu"))
    assert losses(tmp_path) == losses(one)
    ours, theirs = (load_file(path / MODEL / "model.safetensors") for path in (one, tmp_path))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_loss_that_is_no_number_stops_before_the_weights_change(folders, tmp_path: Path) -> None:
    with pytest.raises(LossNotFinite, match="at step .*a lower learning rate than 1e[+]30 may help"):
        run(job(folders, tmp_path, learning_rate=1e30, save_every=1, clip=1e9), alone("cpu"))
    (step, *_) = reversed(checkpoint.steps(tmp_path / "checkpoints"))
    assert step == len(losses(tmp_path)) >= 1


def test_a_torn_checkpoint_is_passed_over_for_the_one_before(folders, one: Path, tmp_path: Path) -> None:
    run(job(folders, tmp_path), alone("cpu"))
    metadata = [tmp_path / "checkpoints" / f"step-{step:08d}" / ".metadata" for step in (20, 15)]
    metadata[0].write_bytes(b"torn")
    run(job(folders, tmp_path), alone("cpu"))
    assert losses(tmp_path) == losses(one)
    for path in metadata:
        path.write_bytes(b"torn")
    with pytest.raises(checkpoint.CheckpointBroken, match="none of the checkpoints in .* can be read"):
        run(job(folders, tmp_path), alone("cpu"))


@pytest.mark.slow
def test_what_stops_one_of_two_processes_comes_back_as_a_sentence(folders, tmp_path: Path) -> None:
    with pytest.raises(LaunchFailed, match="3 rows a step do not spread over 2 processes"):
        launch(job(folders, tmp_path, batch=3), 2)


def test_schedules_warm_up_and_end_low() -> None:
    for name in ("wsd", "cosine"):
        config = LoopConfig(schedule=name, steps=100, warmup=10)  # type: ignore[arg-type]
        shares = [config.share(step) for step in range(100)]
        assert shares[0] == pytest.approx(0.1)
        assert shares[9] == 1.0
        assert shares[-1] < 0.16
        assert all(a >= b for a, b in zip(shares[10:], shares[11:], strict=False))
    assert LoopConfig(steps=100, warmup=10).share(79) == 1.0
    with pytest.raises(InvalidConfig, match="unknown schedule 'step'; known: wsd, cosine"):
        LoopConfig(schedule="step")  # type: ignore[arg-type]


def test_bits_per_byte_of_a_uniform_model() -> None:
    model = build_model(ARCH, seed=0)
    torch.nn.init.zeros_(model.model.norm.weight)
    stream = PackedStream(np.arange(1, 60, dtype=np.int32), 16, end=0)
    assert bits_per_byte(model, stream, np.full(64, 2, np.int32)) == pytest.approx(3.0)  # 6 bits over 2 bytes


def test_without_a_teacher_the_loss_is_cross_entropy(folders, tmp_path: Path) -> None:
    run(job(folders, tmp_path, kd_weight=0.0, steps=3), alone("cpu"))
    assert all(row["loss"] == row["cross_entropy"] for row in Records(tmp_path / "curve.jsonl").read())


