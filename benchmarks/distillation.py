"""Top-K distillation with cross-entropy against cross-entropy alone: a small student, three seeds, at equal tokens and
at equal compute.

Distillation and its equal-token rival read the part of the text that the teacher was asked about, every token of it.
Equal compute is equal seconds on the same cores with the teacher's reading counted: cross-entropy then takes as many
more steps as fit, on the whole text, because text without a teacher's word costs nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.record import publish
from search_space import cost
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from trainer.data.packing import PackedStream
from trainer.data.vocabulary import VOCABULARY, Vocabulary
from trainer.engine.config import LoopConfig
from trainer.engine.evaluate import bits_per_byte
from trainer.engine.launch import Job, launch, whole_model
from trainer.pipeline.chain import run_stage, stage_folders
from trainer.pipeline.records import Records
from trainer.pipeline.stage import Recipe
from trainer.recipes.tiny import SOURCES
from trainer.stages.data import DataStage
from trainer.stages.teacher import TeacherStage
from trainer.teacher.directory import SMOLLM2, identity, teacher_directory
from trainer.teacher.model import MappedTeacher, load_teacher

SEEDS = (0, 1, 2)
T_QUANTILE = 4.303  # two-sided 95 %, two degrees of freedom
TEXT_TOKENS, TOLD_TOKENS, VOCAB = 330_000, 32_769, 4096  # the teacher's tokens; the student's
ARCH = ArchConfig(
    128, VOCAB, tuple(LayerConfig(Gqa(2, 1, 64) if i == 2 else GatedShortConv(3), SwiGLU(384)) for i in range(4))
)
CONFIG = LoopConfig(
    steps=48, batch=8, micro_batch=8, length=256, learning_rate=3e-3, warmup=10, autocast=True, save_every=10_000
)
KD, CE, LONGER = "KD + CE", "CE, equal tokens", "CE, equal compute"


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--root", type=Path, default=Path("var/train"), help="of runs; stages there are used again")
    options.add_argument("--steps", type=int, default=CONFIG.steps)
    options.add_argument("--threads", type=int, default=1, help="of torch, for teacher and student alike")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    config = replace(CONFIG, steps=given.steps)
    data, teacher = prepared(given.root.resolve())
    told = json.dumps([teacher.name, asdict(config), ARCH.to_dict()])
    kept = Records(given.root / f"distillation-{hashlib.sha256(told.encode()).hexdigest()[:12]}.jsonl")
    teacher_s = once(kept, "teacher", 0, lambda: {"seconds": teacher_seconds(data, given.root.resolve())})["seconds"]
    runs = [run for seed in SEEDS for run in arms(replace(config, seed=seed), data, teacher, teacher_s, kept)]
    rows = [{key: value for key, value in run.items() if key != "curve"} for run in runs]
    publish("distillation", summarized(runs, teacher_s, config), rows, runs)


def prepared(root: Path) -> tuple[Path, Path]:
    """The folders of text and teacher, made when they are not there (minutes), and ``told.bin`` beside the latter:
    the part of the text that the teacher was asked about."""
    teacher_id = identity(SMOLLM2)
    recipe = Recipe("distillation", (
        DataStage(SMOLLM2, teacher_id, SOURCES, VOCAB, TEXT_TOKENS, held_out_share=0.1),
        TeacherStage(SMOLLM2, teacher_id, max_tokens=TOLD_TOKENS, shard_tokens=4096),
    ))  # fmt: skip
    folders = stage_folders(recipe, root)
    for stage in recipe.stages:
        tell = lambda share, message, name=stage.name: print(f"{name}: {message}", flush=True)  # noqa: E731
        run_stage(stage, folders[stage.name], {name: folders[name] for name in stage.inputs}, tell)
    np.fromfile(folders["data"] / "train.bin", np.int32)[:TOLD_TOKENS].tofile(folders["teacher"] / "told.bin")
    return folders["data"], folders["teacher"]


def teacher_seconds(data: Path, root: Path, sample: int = 8_192) -> float:
    """What the teacher needs for the told part, by its pace on the first ``sample`` tokens."""
    model = load_teacher(teacher_directory(SMOLLM2, root / "cache"))
    tokens = np.fromfile(data / "train.teacher.bin", np.int32)
    mapped = MappedTeacher(model, Vocabulary.load(data / VOCABULARY), tokens)
    mapped(0, 512)
    start = time.monotonic()
    mapped(0, sample)
    return (time.monotonic() - start) / sample * TOLD_TOKENS


def arms(config: LoopConfig, data: Path, teacher: Path, teacher_s: float, kept: Records) -> list[dict[str, Any]]:
    """The three runs of a seed."""
    plain_config, told = replace(config, kd_weight=0.0), teacher / "told.bin"
    run = lambda arm, chosen, stream: once(  # noqa: E731
        kept, arm, config.seed, lambda: trained(arm, chosen, data, teacher, stream)
    )
    distilled, plain = run(KD, config, told), run(CE, plain_config, told)
    steps = round(config.steps * (distilled["seconds"] + teacher_s) / plain["seconds"])
    return [distilled, plain, run(LONGER, replace(plain_config, steps=steps), None)]


def once(kept: Records, arm: str, seed: int, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """``kept`` has what a benchmark that was ended before has done."""
    for row in kept.read():
        if (row["arm"], row["seed"]) == (arm, seed):
            return row
    row = {"arm": arm, "seed": seed, **make()}
    kept.add(**row)
    return row


def trained(arm: str, config: LoopConfig, data: Path, teacher: Path, stream: Path | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        launch(Job(ARCH.to_dict(), asdict(config), str(data), str(teacher), name, stream=stream and str(stream)), 1)
        vocabulary = Vocabulary.load(data / VOCABULARY)
        held_out = PackedStream.open(data / "held_out.bin", config.length, vocabulary.end)
        curve, tokens = Records(folder / "curve.jsonl").read(), config.batch * config.length
        bits = bits_per_byte(whole_model(folder), held_out, vocabulary.num_bytes, max_rows=120)
    # by the median step: what else the machine did meanwhile is nobody's compute
    seconds = config.steps * tokens / float(np.median([row["tokens_per_s"] for row in curve]))
    print(f"{arm}, seed {config.seed}: {config.steps} steps, {seconds:.0f} s, {bits:.4f} bits per byte", flush=True)
    return {"tokens": config.steps * tokens, "seconds": round(seconds, 1), "bits_per_byte": round(bits, 4),
            "curve": [round(row["cross_entropy"], 4) for row in curve]}  # fmt: skip


def summarized(runs: list[dict[str, Any]], teacher_s: float, config: LoopConfig) -> dict[str, Any]:
    bits = {arm: np.array([r["bits_per_byte"] for r in runs if r["arm"] == arm]) for arm in (KD, CE, LONGER)}
    tokens, compute = difference(bits[KD] - bits[CE]), difference(bits[KD] - bits[LONGER])
    return {
        "bits_per_byte": {arm: round(float(values.mean()), 4) for arm, values in bits.items()},
        "kd_minus_ce": {"equal_tokens": tokens, "equal_compute": compute},
        "said": f"At equal tokens {tokens['said']}; at equal compute {compute['said']}.",
        "teacher_seconds": round(teacher_s, 1), "told_tokens": TOLD_TOKENS, "seeds": len(SEEDS),
        "params": cost.params(ARCH), "embedding_share": round(cost.embedding_share(ARCH), 4),
        "kd_weight": config.kd_weight, "temperature": config.temperature,
    }  # fmt: skip


def difference(values: np.ndarray) -> dict[str, Any]:
    """Paired over seeds, 95 % t interval; negative is better for distillation."""
    mean, half = float(values.mean()), T_QUANTILE * float(values.std(ddof=1)) / len(values) ** 0.5
    low, high = round(mean - half, 4), round(mean + half, 4)
    between = f"{mean:+.3f} bits per byte, 95 % interval {low:+.3f} to {high:+.3f}"
    if low <= 0 <= high:
        return {"mean": round(mean, 4), "interval": [low, high], "said": f"no difference is shown ({between})"}
    better = "distillation is better" if high < 0 else "cross-entropy alone is better"
    return {"mean": round(mean, 4), "interval": [low, high], "said": f"{better} ({between})"}


if __name__ == "__main__":
    main()
