"""A short run reads what it is given and leaves nothing behind but its figures."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from trainer.data.vocabulary import VOCABULARY, Vocabulary
from trainer.engine.config import LoopConfig
from trainer.evaluation.short_run import short_run
from trainer.recipes.short_distillation import STUDENT, TAUGHT_TOKENS, taught_text

ARCH = ArchConfig(32, 64, (LayerConfig(GatedShortConv(3), SwiGLU(48)), LayerConfig(Gqa(2, 1, 16), SwiGLU(48))))
LOOP = LoopConfig(steps=4, batch=2, micro_batch=2, length=16, warmup=1, save_every=100, kd_weight=0.0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name, length in (("train", 2000), ("held_out", 400)):
        random.integers(0, 64, length).astype(np.int32).tofile(folder / f"{name}.bin")
    identity = np.arange(64, dtype=np.int32)
    Vocabulary(identity, identity, np.arange(65), np.ones(64, np.int32), 0, 0).save(folder / VOCABULARY)
    return folder


def test_its_figures(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setenv("HILNAS_MEASUREMENT_LOCK", str(tmp_path / "quiet"))
    run = short_run(ARCH, LOOP, data, data)
    assert (run.tokens, len(run.curve)) == (4 * 2 * 16, 4)
    assert run.seconds > 0 and 4 < run.bits_per_byte < 8  # random tokens of one byte each: 6 bits
    assert not list(scratch.iterdir())


def test_the_first_tokens_alone(data: Path) -> None:
    first = short_run(ARCH, LOOP, data, data, first_tokens=64)
    train = np.fromfile(data / "train.bin", np.int32)
    train[64:] = 0
    train.tofile(data / "train.bin")
    again = short_run(ARCH, LOOP, data, data, first_tokens=64)
    assert first.curve == again.curve, "the rest of the text was not read"
    assert first.curve != short_run(ARCH, replace(LOOP, seed=1), data, data, first_tokens=64).curve


def test_the_student_of_experiments_fits_its_text() -> None:
    data, teacher = taught_text("smollm2-135m").stages
    assert data.name == "data" and teacher.name == "teacher"  # what the folders are found by
    assert STUDENT.vocab_size == data.resolved()["vocab_size"]
    assert teacher.resolved()["max_tokens"] == TAUGHT_TOKENS
