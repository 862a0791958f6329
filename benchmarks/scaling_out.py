"""One training job over 1 and 2 processes of torchrun (FSDP2, gloo on CPUs): equal losses, tokens per second, and a
resume after a stop in the middle that changes no bit."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from benchmarks.record import publish
from search_space import cost
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from trainer.data.vocabulary import VOCABULARY, Vocabulary
from trainer.loop.config import LoopConfig
from trainer.loop.launch import MODEL, Job, launch
from trainer.pipeline.records import Records
from trainer.topk_cache import CacheSpec, TopKCache

STOP_AT, NUM_TOKENS, VOCAB = 12, 30_000, 2048
CONFIG = LoopConfig(steps=20, batch=8, micro_batch=2, length=128, warmup=3, save_every=5)
ARCH = ArchConfig(
    192, VOCAB, tuple(LayerConfig(Gqa(3, 1, 64) if i == 2 else GatedShortConv(3), SwiGLU(512)) for i in range(4))
)


class StopHere(Exception):
    pass


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        synthetic(root)
        runs = {f"{count} stopped={stopped}": trained(root, count, stopped) for count in (1, 2) for stopped in (0, 1)}
    one, two = (losses(runs[f"{count} stopped=0"]) for count in (1, 2))
    exact = {count: same(runs[f"{count} stopped=0"], runs[f"{count} stopped=1"]) for count in (1, 2)}
    summary = {
        "max_loss_difference": float(np.abs(one - two).max()), "bit_exact": all(exact.values()),
        "tokens_per_s": {str(count): speed(runs[f"{count} stopped=0"]) for count in (1, 2)}, "steps": CONFIG.steps,
        "params": cost.params(ARCH), "launchers": ["torchrun"], "ray": "not run", "cores": os.cpu_count(),
    }  # fmt: skip
    rows = [{"processes": count, "tokens/s": speed(runs[f"{count} stopped=0"]), "last loss": float(curve[-1]),
             "bit exact": str(exact[count])} for count, curve in ((1, one), (2, two))]  # fmt: skip
    publish("scaling_out", summary, rows, {key: run["curve"] for key, run in runs.items()})


def trained(root: Path, processes: int, stopped: int) -> dict[str, Any]:
    """Curve and weights of a whole run; ``stopped`` ends it once in the middle and starts it again."""
    folder = root / f"run-{processes}-{stopped}"
    folder.mkdir()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))
    job = Job(ARCH.to_dict(), asdict(CONFIG), str(root / "data"), str(root / "teacher"), str(folder))
    if stopped:
        try:
            launch(job, processes, until(folder))
        except StopHere:
            print(f"{processes} process(es) ended after {len(Records(folder / 'curve.jsonl').read())} steps")
    launch(job, processes)
    return {"curve": Records(folder / "curve.jsonl").read(), "model": load_file(folder / MODEL / "model.safetensors")}


def until(folder: Path) -> Callable[[float, str], None]:
    """Several processes are killed, one gets an exception."""

    def progress(share: float, message: str) -> None:
        if share * CONFIG.steps >= STOP_AT:
            raise StopHere

    return progress


def synthetic(root: Path) -> None:
    """Documents of about 50 skewed random tokens, a teacher that speaks about three of four."""
    random = np.random.default_rng(0)
    data = root / "data"
    data.mkdir()
    tokens = (random.random(NUM_TOKENS) ** 3 * (VOCAB - 1) + 1).astype(np.int32)
    np.where(random.random(NUM_TOKENS) < 0.02, 0, tokens).astype(np.int32).tofile(data / "train.bin")
    same_ids = np.arange(VOCAB, dtype=np.int32)
    Vocabulary(same_ids, same_ids, np.arange(VOCAB + 1), np.ones(VOCAB, np.int32), 0, 0).save(data / VOCABULARY)

    def answers(start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(start)
        logits = 3 * torch.randn((stop - start, VOCAB), generator=generator)
        values, ids = logits.log_softmax(-1).topk(32)
        values[::4] = -1e4
        return values, ids

    TopKCache(root / "teacher" / "cache", CacheSpec("synthetic", NUM_TOKENS, VOCAB, 32, 8192)).fill(answers)


def losses(run: dict[str, Any]) -> np.ndarray:
    return np.array([row["loss"] for row in run["curve"]])


def speed(run: dict[str, Any]) -> float:
    """Median over steps; the first is warming up."""
    return float(np.median([row["tokens_per_s"] for row in run["curve"][1:]]))


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    weights = all(torch.equal(a["model"][name], b["model"][name]) for name in a["model"])
    return bool(np.array_equal(losses(a), losses(b))) and weights


if __name__ == "__main__":
    main()
