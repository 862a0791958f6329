"""Top-K distillation with cross-entropy against cross-entropy alone: a small student on the tiny recipe's text, three
seeds, at equal tokens and at equal compute.

Equal compute is equal seconds on the same cores, with the teacher's reading of every token it was asked about counted:
cross-entropy then trains on as many more tokens as fit.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import publish
from search_space import cost
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from trainer.data.packing import PackedStream
from trainer.data.vocabulary import VOCABULARY, Vocabulary
from trainer.loop.config import LoopConfig
from trainer.loop.evaluate import bits_per_byte
from trainer.loop.launch import Job, launch, whole_model
from trainer.pipeline.chain import run_stage, stage_folders
from trainer.pipeline.records import Records
from trainer.recipes import tiny
from trainer.teacher import SMOLLM2, MappedTeacher, load_teacher, teacher_directory

SEEDS = (0, 1, 2)
T_QUANTILE = 4.303  # two-sided 95 %, two degrees of freedom
ARCH = ArchConfig(
    128, 4096, tuple(LayerConfig(Gqa(2, 1, 64) if i == 2 else GatedShortConv(3), SwiGLU(384)) for i in range(4))
)
CONFIG = LoopConfig(steps=40, batch=8, micro_batch=8, length=256, learning_rate=3e-3, warmup=10, save_every=10_000)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--root", type=Path, default=Path("var/train"), help="of runs; stages there are used again")
    options.add_argument("--steps", type=int, default=CONFIG.steps)
    options.add_argument("--scale", type=float, default=0.25, help="of the tiny recipe's text")
    given = options.parse_args()
    data, teacher = prepared(given.root, given.scale)
    config = replace(CONFIG, steps=given.steps)
    teacher_s = teacher_seconds(data, given.root, config.steps * config.batch * config.length)
    kept = Records(given.root / f"distillation-{data.name}-{config.steps}.jsonl")
    runs = [run for seed in SEEDS for run in arms(config, seed, data, teacher, teacher_s, kept)]
    rows = [{key: value for key, value in run.items() if key != "curve"} for run in runs]
    publish("distillation", summarized(runs, teacher_s, config), rows, runs)


def prepared(root: Path, scale: float) -> tuple[Path, Path]:
    """The folders of the tiny recipe's first two stages, made when they are not there (minutes)."""
    recipe = tiny(scale=scale)
    folders = stage_folders(recipe, root.resolve())
    for stage in recipe.stages[:2]:
        run_stage(stage, folders[stage.name], {name: folders[name] for name in stage.inputs})
    return folders["data"], folders["teacher"]


def teacher_seconds(data: Path, root: Path, num_tokens: int, sample: int = 8_192) -> float:
    """What the teacher needs for ``num_tokens`` of the student's, by its pace on the first ``sample``."""
    model = load_teacher(teacher_directory(SMOLLM2, root.resolve() / "cache"))
    tokens = np.fromfile(data / "train.teacher.bin", np.int32)
    mapped = MappedTeacher(model, Vocabulary.load(data / VOCABULARY), tokens)
    mapped(0, 512)
    start = time.monotonic()
    mapped(0, sample)
    unique = min(num_tokens, int((data / "train.bin").stat().st_size // 4))
    return (time.monotonic() - start) / sample * unique


def arms(
    config: LoopConfig, seed: int, data: Path, teacher: Path, teacher_s: float, kept: Records
) -> list[dict[str, Any]]:
    """The three runs of a seed; ``kept`` has those of a benchmark that was ended before."""
    if len(there := [row for row in kept.read() if row["seed"] == seed]) >= 3:
        return there[-3:]
    distilled = trained("KD + CE", replace(config, seed=seed), data, teacher)
    plain = trained("CE, equal tokens", replace(config, seed=seed, kd_weight=0.0), data, teacher)
    steps = round(config.steps * (distilled["seconds"] + teacher_s) / plain["seconds"])
    longer = trained("CE, equal compute", replace(config, seed=seed, kd_weight=0.0, steps=steps), data, teacher)
    for row in (made := [distilled, plain, longer]):
        kept.add(**row)
    return made


def trained(arm: str, config: LoopConfig, data: Path, teacher: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        launch(Job(ARCH.to_dict(), asdict(config), str(data), str(teacher), name), 1)
        vocabulary = Vocabulary.load(data / VOCABULARY)
        held_out = PackedStream.open(data / "held_out.bin", config.length, vocabulary.end)
        curve, tokens = Records(folder / "curve.jsonl").read(), config.batch * config.length
        bits = bits_per_byte(whole_model(folder), held_out, vocabulary.num_bytes, max_rows=120)
    seconds = sum(tokens / row["tokens_per_s"] for row in curve)
    print(f"{arm}, seed {config.seed}: {config.steps} steps, {seconds:.0f} s, {bits:.4f} bits per byte", flush=True)
    return {"arm": arm, "seed": config.seed, "tokens": config.steps * tokens, "seconds": round(seconds, 1),
            "bits_per_byte": round(bits, 4), "curve": [row["cross_entropy"] for row in curve]}  # fmt: skip


def summarized(runs: list[dict[str, Any]], teacher_s: float, config: LoopConfig) -> dict[str, Any]:
    bits = {arm: np.array([r["bits_per_byte"] for r in runs if r["arm"] == arm]) for arm in {r["arm"] for r in runs}}
    return {
        "bits_per_byte": {arm: round(float(values.mean()), 4) for arm, values in sorted(bits.items())},
        "kd_minus_ce": {
            key: difference(bits["KD + CE"] - bits[f"CE, {key.replace('_', ' ')}"])
            for key in ("equal_tokens", "equal_compute")
        },
        "teacher_seconds": round(teacher_s, 1), "seeds": len(SEEDS), "params": cost.params(ARCH),
        "embedding_share": round(cost.embedding_share(ARCH), 4), "kd_weight": config.kd_weight,
        "temperature": config.temperature,
    }  # fmt: skip


def difference(values: np.ndarray) -> dict[str, Any]:
    """Paired over seeds, 95 % t interval; negative is better for distillation."""
    mean, half = float(values.mean()), T_QUANTILE * float(values.std(ddof=1)) / len(values) ** 0.5
    said = "KD better" if mean + half < 0 else "CE better" if mean - half > 0 else "no difference shown"
    return {"mean": round(mean, 4), "interval": [round(mean - half, 4), round(mean + half, 4)], "said": said}


if __name__ == "__main__":
    main()
