"""One training job over 1 and 2 processes, started by torchrun and by Ray Train (FSDP2, gloo on CPUs): equal losses,
tokens per second, and a resume after a stop in the middle that changes no bit.

Where there is a GPU also steps of recipe ``small`` on it: tokens per second, model FLOPs utilization, memory.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from benchmarks.record import publish
from foundation.cpus import usable_cpus
from search_space import cost
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from trainer.data.vocabulary import VOCABULARY, Vocabulary
from trainer.engine.config import LoopConfig
from trainer.engine.launch import LAUNCHERS, Job, launch
from trainer.engine.model_dir import MODEL
from trainer.pipeline.records import Records
from trainer.teacher.topk_cache import CacheSpec, TopKCache

STOP_AFTER, VOCAB, TOP_K, GPU_STEPS = 6, 2048, 32, 12
CONFIG = LoopConfig(steps=24, batch=8, micro_batch=2, length=128, warmup=3, save_every=5)
ARCH = ArchConfig(
    192, VOCAB, tuple(LayerConfig(Gqa(3, 1, 64) if i == 2 else GatedShortConv(3), SwiGLU(512)) for i in range(4))
)
# bfloat16 without sparsity, by a part of the device's name (NVIDIA's data sheets)
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12}


class StopHere(Exception):
    pass


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--launchers", nargs="+", default=[name for name in LAUNCHERS if there(name)])
    given = options.parse_args()
    rows, curves, on_gpu = measure(given.launchers)
    summary = {
        **judge(rows, curves), "steps": CONFIG.steps, "params": cost.params(ARCH), "launchers": given.launchers,
        "cores": usable_cpus(), "gpu": on_gpu,
    }  # fmt: skip
    publish("scaling_out", summary, rows, curves)


def measure(launchers: list[str]) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any] | str]:
    """Rows and curves as of ``compared``; figures of the GPU, or that there is none."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        synthetic(root, VOCAB, 30_000)
        on_gpu = small_on_gpu(root) if torch.cuda.is_available() else "no GPU here"
        return *compared(root, launchers), on_gpu


def judge(rows: list[dict[str, Any]], curves: dict[str, Any]) -> dict[str, Any]:
    """The bar, 1e-5, is for losses; all runs see the same batches."""
    all_losses = [np.array([step["loss"] for step in curve]) for curve in curves.values()]
    return {
        "max_loss_difference": float(max(np.abs(losses - all_losses[0]).max() for losses in all_losses)),
        "bit_exact": all(row["bit exact"] == "True" for row in rows),
        "tokens_per_s": {f"{row['launcher']} {row['processes']}": row["tokens/s"] for row in rows},
    }


def there(launcher: str) -> bool:
    return launcher != "ray" or importlib.util.find_spec("ray") is not None


def compared(root: Path, launchers: list[str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row for each launcher and number of processes, and the curves of all runs."""
    rows, raw = [], {}
    for launcher, count in ((launcher, count) for launcher in launchers for count in (1, 2)):
        whole, stopped = (trained(root, launcher, count, stop) for stop in (False, True))
        rows.append({"launcher": launcher, "processes": count, "tokens/s": speed(whole),
                     "last loss": whole["curve"][-1]["loss"], "bit exact": str(same(whole, stopped))})  # fmt: skip
        raw |= {f"{launcher} {count}": whole["curve"], f"{launcher} {count} stopped": stopped["curve"]}
    return rows, raw


def trained(root: Path, launcher: str, processes: int, stop: bool) -> dict[str, Any]:
    """Curve and weights of a whole run; with ``stop`` it ends once in the middle and is started again."""
    folder = root / f"{launcher}-{processes}-{stop}"
    folder.mkdir()
    torch.set_num_threads(max(1, usable_cpus() // processes))
    job = Job(ARCH.to_dict(), asdict(CONFIG), str(root / "data"), str(root / "teacher"), str(folder))
    if stop:
        try:
            launch(job, processes, until(STOP_AFTER), launcher)
        except StopHere:
            done = len(Records(folder / "curve.jsonl").read())
            print(f"{launcher}, {processes} process(es): ended after {done} steps", flush=True)
        assert not (folder / MODEL).exists(), "it was done before it could be stopped; give it more steps"
    launch(job, processes, launcher=launcher)
    return {"curve": Records(folder / "curve.jsonl").read(), "model": load_file(folder / MODEL / "model.safetensors")}


def until(step: int) -> Callable[[float, str], None]:
    """Several processes are killed, one gets an exception."""

    def progress(share: float, message: str) -> None:
        if share * CONFIG.steps >= step:
            raise StopHere

    return progress


def small_on_gpu(root: Path) -> dict[str, Any]:
    """``GPU_STEPS`` of its pretraining, with a teacher's word, on made-up tokens; the first steps are not counted."""
    from trainer.recipes import recipe_named
    from trainer.stages.pretrain import PretrainStage

    recipe = recipe_named("small")
    stage = next(stage for stage in recipe.stages if isinstance(stage, PretrainStage))
    arch = ArchConfig.from_dict(stage.arch)
    config = replace(stage.loop, steps=GPU_STEPS, warmup=2, save_every=GPU_STEPS)
    folder = root / "small"
    synthetic(folder, arch.vocab_size, config.batch * config.length * 2 + 1)
    torch.cuda.reset_peak_memory_stats()
    launch(Job(arch.to_dict(), asdict(config), str(folder / "data"), str(folder / "teacher"), str(folder)), 1)
    curve = Records(folder / "curve.jsonl").read()
    tokens_per_s = float(np.median([row["tokens_per_s"] for row in curve[GPU_STEPS // 3 :]]))
    name = torch.cuda.get_device_name()
    peak = next((flops for part, flops in PEAK_FLOPS.items() if part in name), None)
    # forward and twice that backward, two operations a multiply-accumulate; a token sees half the row on average
    flops = 6 * cost.macs_per_token(arch, config.length // 2)
    return {
        "device": name, "tokens_per_s": tokens_per_s, "mfu": round(tokens_per_s * flops / peak, 4) if peak else None,
        "peak_memory_bytes": torch.cuda.max_memory_allocated(), "params": cost.params(arch),
    }  # fmt: skip


def synthetic(root: Path, vocab_size: int, num_tokens: int) -> None:
    """Documents of about 50 skewed random tokens, a teacher that speaks about three of four."""
    random = np.random.default_rng(0)
    data = root / "data"
    data.mkdir(parents=True)
    tokens = (random.random(num_tokens) ** 3 * (vocab_size - 1) + 1).astype(np.int32)
    np.where(random.random(num_tokens) < 0.02, 0, tokens).astype(np.int32).tofile(data / "train.bin")
    same_ids = np.arange(vocab_size, dtype=np.int32)
    Vocabulary(same_ids, same_ids, np.arange(vocab_size + 1), np.ones(vocab_size, np.int32), 0, 0).save(
        data / VOCABULARY
    )

    def answers(start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The rest of its mass is what a 33rd entry would have."""
        generator = torch.Generator().manual_seed(start)
        logits = 3 * torch.randn((stop - start, TOP_K + 1), generator=generator)
        values, _ = logits.log_softmax(-1)[:, :TOP_K].sort(descending=True)
        values[::4] = -1e4
        first = torch.randint(vocab_size, (stop - start, 1), generator=generator)
        return values, (first + 7 * torch.arange(TOP_K)) % vocab_size

    TopKCache(root / "teacher" / "cache", CacheSpec("synthetic", num_tokens, vocab_size, TOP_K, 8192)).fill(answers)


def speed(run: dict[str, Any]) -> float:
    """Median over steps; the first is warming up."""
    return float(np.median([row["tokens_per_s"] for row in run["curve"][1:]]))


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    losses = ([row["loss"] for row in run["curve"]] for run in (a, b))
    return next(losses) == next(losses) and all(torch.equal(a["model"][name], b["model"][name]) for name in a["model"])


if __name__ == "__main__":
    main()
