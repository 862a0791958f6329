"""A short pretraining of a small student and its bits per byte: what an experiment repeats over settings and seeds."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from search_space.arch import ArchConfig
from trainer.data.token_dir import TokenDir
from trainer.engine.config import LoopConfig
from trainer.engine.evaluate import bits_per_byte
from trainer.engine.launch import Job, launch
from trainer.engine.model_dir import ModelDir
from trainer.pipeline.records import Records


@dataclass(frozen=True)
class ShortRun:
    """``seconds`` are those of the median step times the number of steps: what else the machine did does not count.
    ``curve`` is the cross-entropy of every step in nats per token."""

    tokens: int
    seconds: float
    bits_per_byte: float
    curve: tuple[float, ...]


def short_run(
    arch: ArchConfig,
    config: LoopConfig,
    data: Path,
    teacher: Path,
    first_tokens: int | None = None,
    max_rows: int = 120,
) -> ShortRun:
    """Reads the training text of the folder ``data``, or its ``first_tokens`` alone; nothing of the run is kept.
    Bits per byte are taken on at most ``max_rows`` rows of held-out text."""
    with tempfile.TemporaryDirectory() as name:
        folder, tokens_dir = Path(name), TokenDir(data)
        text = tokens_dir.path("train")
        stream = None if first_tokens is None else _first(text, first_tokens, folder / "first.bin")
        launch(Job(arch.to_dict(), asdict(config), str(data), str(teacher), name, stream=stream), 1)
        held_out = tokens_dir.packed("held_out", config.length)
        curve, tokens = Records(folder / "curve.jsonl").read(), config.batch * config.length
        bits = bits_per_byte(ModelDir(folder).load(), held_out, tokens_dir.vocabulary().num_bytes, max_rows)
    seconds = config.steps * tokens / float(np.median([row["tokens_per_s"] for row in curve]))
    return ShortRun(config.steps * tokens, seconds, bits, tuple(row["cross_entropy"] for row in curve))


def _first(text: Path, num_tokens: int, out: Path) -> str:
    np.fromfile(text, np.int32, num_tokens).tofile(out)
    return str(out)
