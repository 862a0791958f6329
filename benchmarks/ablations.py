"""Constants of our recipes that LFM2's authors did not publish, each changed alone: three seeds, paired differences to
the recipe's own value, 95 % intervals.

Distillation and schedule: the student of ``trainer.recipes.short_distillation`` in bits per byte (lower is better).
Curriculum: the tools specialist of a finished ``recipe_tiny`` in success on its test examples (higher is better).
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from benchmarks.intervals import SEEDS, mean_with_interval, of_arm
from benchmarks.record import publish
from benchmarks.resume import KeptRows
from trainer.data.vocabulary import VOCABULARY, Vocabulary
from trainer.engine.config import LoopConfig
from trainer.engine.model_dir import ModelDir
from trainer.evaluation.short_run import short_run
from trainer.examples.success import success
from trainer.pipeline.chain import run_recipe, run_stage, stage_folders
from trainer.recipes.short_distillation import LOOP, STUDENT, TAUGHT_TOKENS, taught_text
from trainer.results.records import RunRecord, run_record
from trainer.stages.sft import SftStage
from trainer.tasks.registry import task_named

AFTER = ("recipe_tiny",)  # whose run it reads
OWN = "as it is"
DISTILLING: dict[str, dict[str, Any]] = {
    OWN: {}, "kd_weight 0.25": {"kd_weight": 0.25}, "kd_weight 0.75": {"kd_weight": 0.75},
    "temperature 2": {"temperature": 2.0}, "half the learning rate": {"learning_rate": LOOP.learning_rate / 2},
    "twice the learning rate": {"learning_rate": LOOP.learning_rate * 2}, "decay over half": {"decay_share": 0.5},
    "cosine": {"schedule": "cosine"},
}  # fmt: skip
CURRICULA = {OWN: 0.4, "easiest 10 % first": 0.1, "no curriculum": 1.0}
TOOLS = ("extraction", "tool_calls")
TUNING_STEPS = 30
Row = dict[str, Any]


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--root", type=Path, default=Path("var/train"), help="of runs; stages there are used again")
    options.add_argument("--run", default="recipe_tiny", help="whose specialist is trained again")
    given = options.parse_args()
    rows = measure(given.root.resolve(), given.run)
    publish("ablations", {"seeds": len(SEEDS), "minus_own": judge(rows)}, rows)


def measure(root: Path, run: str) -> list[Row]:
    record = run_record(root, run)
    specialist = record.stage("sft_tools")  # a run without it is refused before minutes of work, not after
    recipe = taught_text()
    folders = stage_folders(recipe, root)
    run_recipe(recipe, root, "taught_text", on_event=lambda event: print(event, flush=True))
    data, teacher = folders["data"], folders["teacher"]
    kept = KeptRows(root, "ablations", [
        teacher.name, asdict(LOOP), STUDENT.to_dict(), DISTILLING, specialist.folder.name, CURRICULA, TUNING_STEPS,
    ])  # fmt: skip
    rows = [distilled(arm, seed, data, teacher, kept) for seed in SEEDS for arm in DISTILLING]
    return rows + [tuned(arm, seed, record, kept) for seed in SEEDS for arm in CURRICULA]


def distilled(arm: str, seed: int, data: Path, teacher: Path, kept: KeptRows) -> Row:
    config = replace(LOOP, seed=seed, **DISTILLING[arm])

    def made() -> Row:
        run = short_run(STUDENT, config, data, teacher, TAUGHT_TOKENS)
        print(f"{arm}, seed {seed}: {run.seconds:.0f} s, {run.bits_per_byte:.4f} bits per byte", flush=True)
        return {"bits_per_byte": round(run.bits_per_byte, 4)}

    return kept.once(f"distilling, {arm}", seed, made)


def tuned(arm: str, seed: int, record: RunRecord, kept: KeptRows) -> Row:
    return kept.once(f"curriculum, {arm}", seed, lambda: {"success": tools_success(CURRICULA[arm], seed, record)})


def tools_success(first_share: float, seed: int, record: RunRecord) -> float:
    """Mean over the tools' tasks after a short fine-tuning of the run's general model."""
    folders = {stage.name: stage.folder for stage in record.stages}
    loop = dict(record.stage("sft_tools").settings["loop"])
    loop |= {"steps": TUNING_STEPS, "seed": seed, "betas": tuple(loop["betas"])}
    stage = SftStage(start="sft", tasks=(*TOOLS, "chat"), curriculum="curriculum", first_share=first_share,
                     loop=LoopConfig(**loop))  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "stages" / "tuned"
        run_stage(stage, folder, {key: folders[key] for key in stage.inputs})
        tokenizer = Tokenizer.from_file(str(folders["data"] / "tokenizer" / "tokenizer.json"))
        model, end = ModelDir(folder).load(), Vocabulary.load(folders["data"] / VOCABULARY).end
        examples = [task_named(task).examples("test", 200) for task in TOOLS]
        found = float(np.mean([success(model, tokenizer, each, end).right.mean() for each in examples]))
    print(f"easiest {first_share:.0%} first, seed {seed}: {found:.3f} of the tools' examples", flush=True)
    return round(found, 4)


def judge(rows: list[Row]) -> dict[str, Row]:
    """Arm -> mean difference to the recipe's own value with its interval, paired over seeds."""
    found = {}
    for group, metric, changes in (("distilling", "bits_per_byte", DISTILLING), ("curriculum", "success", CURRICULA)):
        own = of_arm(rows, f"{group}, {OWN}", metric)
        for arm in (f"{group}, {change}" for change in changes if change != OWN):
            found[arm] = {"metric": metric, **mean_with_interval(of_arm(rows, arm, metric) - own)}
    return found


if __name__ == "__main__":
    main()
