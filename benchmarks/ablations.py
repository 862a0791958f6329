"""Constants of our recipes that LFM2's authors did not publish, each changed alone: three seeds, paired differences to
the recipe's own value, 95 % intervals.

Distillation and schedule: the small student of ``benchmarks.distillation`` in bits per byte (lower is better).
Curriculum: the tools specialist of a finished ``recipe_tiny`` in success on its test examples (higher is better).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from benchmarks.distillation import CONFIG, SEEDS, T_QUANTILE, once, prepared, trained
from benchmarks.record import publish
from foundation.errors import InvalidConfig
from trainer.data.vocabulary import VOCABULARY, Vocabulary
from trainer.engine.launch import whole_model
from trainer.examples.success import success
from trainer.pipeline.chain import RECIPE, finished, run_stage
from trainer.pipeline.records import Records
from trainer.stages.sft import SftStage
from trainer.tasks.registry import task_named

OWN = "as it is"
DISTILLING: dict[str, dict[str, Any]] = {
    OWN: {}, "kd_weight 0.25": {"kd_weight": 0.25}, "kd_weight 0.75": {"kd_weight": 0.75},
    "temperature 2": {"temperature": 2.0}, "half the learning rate": {"learning_rate": CONFIG.learning_rate / 2},
    "twice the learning rate": {"learning_rate": CONFIG.learning_rate * 2}, "decay over half": {"decay_share": 0.5},
    "cosine": {"schedule": "cosine"},
}  # fmt: skip
CURRICULA = {OWN: 0.4, "easiest 10 % first": 0.1, "no curriculum": 1.0}
TOOLS = ("extraction", "tool_calls")
TUNING_STEPS = 30


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--root", type=Path, default=Path("var/train"), help="of runs; stages there are used again")
    options.add_argument("--run", default="recipe_tiny", help="whose specialist is trained again")
    given = options.parse_args()
    _folders(given.root, given.run)  # told before minutes of work, not after
    data, teacher = prepared(given.root.resolve())
    kept = Records(given.root / f"ablations-{teacher.name}.jsonl")
    rows = [_distilled(arm, seed, data, teacher, kept) for seed in SEEDS for arm in DISTILLING]
    rows += [_tuned(arm, seed, given.root, given.run, kept) for seed in SEEDS for arm in CURRICULA]
    changed = {**_differences(rows, "bits_per_byte"), **_differences(rows, "success")}
    publish("ablations", {"seeds": len(SEEDS), "minus_own": changed}, rows)


def _distilled(arm: str, seed: int, data: Path, teacher: Path, kept: Records) -> dict[str, Any]:
    config = replace(CONFIG, seed=seed, **DISTILLING[arm])
    row = once(kept, f"distilling, {arm}", seed, lambda: trained(arm, config, data, teacher, teacher / "told.bin"))
    return {"arm": row["arm"], "seed": seed, "bits_per_byte": row["bits_per_byte"]}


def _tuned(arm: str, seed: int, root: Path, run: str, kept: Records) -> dict[str, Any]:
    row = once(kept, f"curriculum, {arm}", seed, lambda: {"success": _success(CURRICULA[arm], seed, root, run)})
    return {"arm": row["arm"], "seed": seed, "success": row["success"]}


def _success(first_share: float, seed: int, root: Path, run: str) -> float:
    """Mean over the tools' tasks after a short fine-tuning of the run's general model."""
    folders = _folders(root, run)
    loop = dict((finished(folders["sft_tools"]) or {})["loop"])
    loop |= {"steps": TUNING_STEPS, "seed": seed, "betas": tuple(loop["betas"])}
    stage = SftStage(start="sft", tasks=(*TOOLS, "chat"), curriculum="curriculum", first_share=first_share,
                     loop=type(CONFIG)(**loop))  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "stages" / "tuned"
        run_stage(stage, folder, {key: folders[key] for key in stage.inputs})
        tokenizer = Tokenizer.from_file(str(folders["data"] / "tokenizer" / "tokenizer.json"))
        model, end = whole_model(folder), Vocabulary.load(folders["data"] / VOCABULARY).end
        examples = [task_named(task).examples("test", 200) for task in TOOLS]
        found = float(np.mean([success(model, tokenizer, each, end).right.mean() for each in examples]))
    print(f"easiest {first_share:.0%} first, seed {seed}: {found:.3f} of the tools' examples", flush=True)
    return round(found, 4)


def _folders(root: Path, run: str) -> dict[str, Path]:
    path = root / "runs" / run / RECIPE
    if not path.exists():
        raise InvalidConfig(f"no run {run!r} under {root}; `python -m benchmarks.recipe_tiny --root {root}` makes it")
    folders = json.loads(path.read_text())["folders"]
    return {name: (root / "stages" / folder).resolve() for name, folder in folders.items()}


def _differences(rows: list[dict[str, Any]], metric: str) -> dict[str, dict[str, Any]]:
    """Arm -> mean difference to the recipe's own value with its interval, paired over seeds."""
    by_arm: dict[str, list[float]] = {}
    for row in rows:
        if metric in row:
            by_arm.setdefault(row["arm"], []).append(row[metric])
    own = next(np.array(values) for arm, values in by_arm.items() if arm.endswith(OWN))
    found = {}
    for arm, values in by_arm.items():
        change = np.array(values) - own
        half = T_QUANTILE * float(change.std(ddof=1)) / len(change) ** 0.5
        mean = float(change.mean())
        if not arm.endswith(OWN):
            interval = [round(mean - half, 4), round(mean + half, 4)]
            found[arm] = {"metric": metric, "mean": round(mean, 4), "interval": interval}
    return found


if __name__ == "__main__":
    main()
