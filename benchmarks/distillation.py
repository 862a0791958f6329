"""Top-K distillation with cross-entropy against cross-entropy alone: a small student, three seeds, at equal tokens and
at equal compute.

Distillation and its equal-token rival read the part of the text that the teacher answered for, every token of it.
Equal compute is equal seconds on the same cores with the teacher's reading counted: cross-entropy then takes as many
more steps as fit, on the whole text, because text without a teacher's word costs nothing.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.intervals import SEEDS, excludes_zero, mean_with_interval, of_arm
from benchmarks.record import publish
from benchmarks.resume import KeptRows
from search_space import cost
from trainer.data.vocabulary import VOCABULARY, Vocabulary
from trainer.engine.config import LoopConfig
from trainer.evaluation.short_run import short_run
from trainer.pipeline.chain import run_recipe, stage_folders
from trainer.recipes.short_distillation import LOOP, STUDENT, TAUGHT_TOKENS, taught_text
from trainer.teacher.directory import SMOLLM2, teacher_directory
from trainer.teacher.model import MappedTeacher, load_teacher

KD, CE, LONGER = "KD + CE", "CE, equal tokens", "CE, equal compute"


@dataclass(frozen=True)
class Measured:
    config: LoopConfig
    teacher_s: float
    runs: list[dict[str, Any]]


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--root", type=Path, default=Path("var/train"), help="of runs; stages there are used again")
    options.add_argument("--steps", type=int, default=LOOP.steps)
    options.add_argument("--threads", type=int, default=1, help="of torch, for teacher and student alike")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    measured = measure(given.root.resolve(), replace(LOOP, steps=given.steps))
    rows = [{key: value for key, value in run.items() if key != "curve"} for run in measured.runs]
    publish("distillation", {**judge(measured), **setting(measured)}, rows, measured.runs)


def measure(root: Path, config: LoopConfig) -> Measured:
    """Makes text and teacher where they are not there yet (minutes), then every arm under every seed."""
    recipe = taught_text()
    folders = stage_folders(recipe, root)
    run_recipe(recipe, root, "taught_text", on_event=lambda event: print(event, flush=True))
    data, teacher = folders["data"], folders["teacher"]
    kept = KeptRows(root, "distillation", [teacher.name, asdict(config), STUDENT.to_dict()])
    teacher_s = kept.once("teacher", 0, lambda: {"seconds": teacher_seconds(data, root)})["seconds"]
    runs = [run for seed in SEEDS for run in arms(replace(config, seed=seed), data, teacher, teacher_s, kept)]
    return Measured(config, teacher_s, runs)


def teacher_seconds(data: Path, root: Path, sample: int = 8_192) -> float:
    """What the teacher needs for its part of the text, by its pace on the first ``sample`` tokens."""
    model = load_teacher(teacher_directory(SMOLLM2, root / "cache"))
    tokens = np.fromfile(data / "train.teacher.bin", np.int32)
    mapped = MappedTeacher(model, Vocabulary.load(data / VOCABULARY), tokens)
    mapped(0, 512)
    start = time.monotonic()
    mapped(0, sample)
    return (time.monotonic() - start) / sample * TAUGHT_TOKENS


def arms(config: LoopConfig, data: Path, teacher: Path, teacher_s: float, kept: KeptRows) -> list[dict[str, Any]]:
    """The three runs of a seed."""

    def run(arm: str, chosen: LoopConfig, first_tokens: int | None) -> dict[str, Any]:
        return kept.once(arm, chosen.seed, lambda: trained(arm, chosen, data, teacher, first_tokens))

    plain_config = replace(config, kd_weight=0.0)
    distilled, plain = run(KD, config, TAUGHT_TOKENS), run(CE, plain_config, TAUGHT_TOKENS)
    steps = round(config.steps * (distilled["seconds"] + teacher_s) / plain["seconds"])
    return [distilled, plain, run(LONGER, replace(plain_config, steps=steps), None)]


def trained(arm: str, config: LoopConfig, data: Path, teacher: Path, first_tokens: int | None) -> dict[str, Any]:
    run = short_run(STUDENT, config, data, teacher, first_tokens)
    figures = f"{config.steps} steps, {run.seconds:.0f} s, {run.bits_per_byte:.4f} bits per byte"
    print(f"{arm}, seed {config.seed}: {figures}", flush=True)
    return {"tokens": run.tokens, "seconds": round(run.seconds, 1), "bits_per_byte": round(run.bits_per_byte, 4),
            "curve": [round(value, 4) for value in run.curve]}  # fmt: skip


def judge(measured: Measured) -> dict[str, Any]:
    bits = {arm: of_arm(measured.runs, arm, "bits_per_byte") for arm in (KD, CE, LONGER)}
    tokens, compute = difference(bits[KD] - bits[CE]), difference(bits[KD] - bits[LONGER])
    return {
        "bits_per_byte": {arm: round(float(values.mean()), 4) for arm, values in bits.items()},
        "kd_minus_ce": {"equal_tokens": tokens, "equal_compute": compute},
        "said": f"At equal tokens {tokens['said']}; at equal compute {compute['said']}.",
    }


def difference(values: np.ndarray) -> dict[str, Any]:
    """Paired over seeds; negative is better for distillation."""
    found = mean_with_interval(values)
    low, high = found["interval"]
    between = f"{values.mean():+.3f} bits per byte, 95 % interval {low:+.3f} to {high:+.3f}"
    if not excludes_zero(found["interval"]):
        return {**found, "said": f"no difference is shown ({between})"}
    better = "distillation is better" if high < 0 else "cross-entropy alone is better"
    return {**found, "said": f"{better} ({between})"}


def setting(measured: Measured) -> dict[str, Any]:
    return {
        "teacher_seconds": round(measured.teacher_s, 1), "told_tokens": TAUGHT_TOKENS, "seeds": len(SEEDS),
        "params": cost.params(STUDENT), "embedding_share": round(cost.embedding_share(STUDENT), 4),
        "kd_weight": measured.config.kd_weight, "temperature": measured.config.temperature,
    }  # fmt: skip


if __name__ == "__main__":
    main()
