"""A finished model in float, quantized after training, and trained as exported with either rounding: held-out text and
tasks over three seeds, with a control that trains as long in float.

The control is what keeps longer training from passing for QAT: its gap lies between its own float weights and the same
quantized.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from benchmarks.distillation import SEEDS, T_QUANTILE, once
from benchmarks.record import publish
from foundation.errors import InvalidConfig
from search_space.modeling.model import HilnasForCausalLM
from trainer.data.packing import PackedStream
from trainer.data.vocabulary import VOCABULARY, Vocabulary
from trainer.engine.config import LoopConfig
from trainer.engine.evaluate import bits_per_byte
from trainer.engine.launch import MODEL, whole_model
from trainer.examples.success import success
from trainer.pipeline.chain import RECIPE, run_stage
from trainer.pipeline.records import Records
from trainer.quantization.exported import differences
from trainer.quantization.modules import quantized
from trainer.recipes.tiny import TASKS
from trainer.stages.qat import QatStage
from trainer.tasks.registry import task_named

LOOP = LoopConfig(
    steps=50, batch=16, micro_batch=8, length=256, autocast=True, kd_weight=0.0, learning_rate=5e-4, warmup=5,
    decay_share=0.9, final_share=0.01, in_order=True, save_every=10_000,
)  # fmt: skip
CONTROL, QAT, STOCHASTIC = "float, as long", "QAT", "QAT, stochastic rounding"
BAR, DIGITS = 0.5, 5
Scores = dict[str, float]


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--root", type=Path, default=Path("var/tiny"), help="of runs")
    options.add_argument("--run", default="recipe_tiny", help="whose model, examples and text are taken")
    options.add_argument("--start", default="merge_2", help="the stage that left the model")
    options.add_argument("--kept", type=Path, default=Path("var/train"), help="folder that remembers finished seeds")
    options.add_argument("--steps", type=int, default=LOOP.steps)
    options.add_argument("--learning-rate", type=float, default=LOOP.learning_rate)
    options.add_argument("--rows", type=int, default=256, help="of held-out text, 256 tokens each")
    options.add_argument("--count", type=int, default=100, help="test examples of each task")
    options.add_argument("--threads", type=int, default=2, help="of torch")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    folders = folders_of(given.root, given.run, given.start)
    loop = replace(LOOP, steps=given.steps, learning_rate=given.learning_rate)
    told = json.dumps([str(folders[given.start].name), asdict(loop), given.rows, given.count])
    given.kept.mkdir(parents=True, exist_ok=True)
    kept = Records(given.kept / f"qat-{hashlib.sha256(told.encode()).hexdigest()[:12]}.jsonl")
    judge = Judge(folders["data"], given.rows, given.count)
    before = once(kept, "start", 0, lambda: judge.both(whole_model(folders[given.start])))
    arms = {
        CONTROL: QatStage(start=given.start, rounding=None, eval_rows=1),
        QAT: QatStage(start=given.start, rounding="nearest", eval_rows=1),
        STOCHASTIC: QatStage(start=given.start, rounding="stochastic", eval_rows=1),
    }
    runs = [
        once(kept, arm, seed, lambda: trained(stage, replace(loop, seed=seed), folders, judge))  # noqa: B023
        for seed in SEEDS
        for arm, stage in arms.items()
    ]
    publish("qat", summarized(before, runs, loop), table(before, runs), runs)


def folders_of(root: Path, run: str, start: str) -> dict[str, Path]:
    """Of the run's stages by name."""
    path = root / "runs" / run / RECIPE
    if not path.exists():
        raise InvalidConfig(f"no run {run!r} under {root}; `python -m benchmarks.recipe_tiny --root {root}` makes it")
    folders = {name: (root / "stages" / at).resolve() for name, at in json.loads(path.read_text())["folders"].items()}
    if start not in folders or not (folders[start] / MODEL).exists():
        left = ", ".join(name for name, folder in folders.items() if (folder / MODEL).exists())
        raise InvalidConfig(f"stage {start!r} left no model; {left} did")
    return folders


class Judge:
    """Held-out text and test examples, the same for every model."""

    def __init__(self, data: Path, rows: int, count: int) -> None:
        self.vocabulary = Vocabulary.load(data / VOCABULARY)
        self.held_out, self.rows = PackedStream.open(data / "held_out.bin", LOOP.length, self.vocabulary.end), rows
        self.tokenizer = Tokenizer.from_file(str(data / "tokenizer" / "tokenizer.json"))
        self.examples = {name: task_named(name).examples("test", count) for name in TASKS}
        self.ids = np.fromfile(data / "held_out.bin", np.int32, 64).tolist()

    def both(self, model: HilnasForCausalLM) -> dict[str, Any]:
        """In float and as exported."""
        return {"float": self._scores(model), "exported": self._scores(quantized(model)),
                "max_difference": max(differences(model, self.ids))}  # fmt: skip

    def _scores(self, model: HilnasForCausalLM) -> Scores:
        bits = bits_per_byte(model, self.held_out, self.vocabulary.num_bytes, self.rows)
        found = [success(model, self.tokenizer, each, self.vocabulary.end) for each in self.examples.values()]
        return {
            "bits_per_byte": round(bits, DIGITS),
            "success": round(float(np.mean([each.right.mean() for each in found])), DIGITS),
            "answer_nats": round(-float(np.mean([each.logprob.mean() for each in found])), DIGITS),
        }


def trained(stage: QatStage, loop: LoopConfig, folders: dict[str, Path], judge: Judge) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "stages" / stage.kind
        record = run_stage(replace(stage, loop=loop), folder, {key: folders[key] for key in stage.inputs})
        scores = judge.both(whole_model(folder))
    tokens, pace = record["metrics"]["tokens"], record["metrics"]["tokens_per_s"]
    print(f"rounding {stage.rounding}, seed {loop.seed}: {tokens / pace:.0f} s of training, {scores}", flush=True)
    return {**scores, "train_seconds": round(tokens / pace, 1)}


def table(before: dict[str, Any], runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per state of the model; what was trained has an interval over seeds."""
    rows: list[dict[str, Any]] = [
        {"model": name, **before[form], "interval": None, "seeds": None}
        for name, form in (("fp32", "float"), ("PTQ", "exported"))
    ]
    for name, arm, form in (
        ("fp32, trained as long", CONTROL, "float"), ("PTQ of it", CONTROL, "exported"), ("QAT", QAT, "exported"),
        ("QAT, stochastic rounding", STOCHASTIC, "exported"),
    ):  # fmt: skip
        values = {key: of(runs, arm, form, key) for key in before["float"]}
        means = {key: round(float(found.mean()), DIGITS) for key, found in values.items()}
        rows.append({"model": name, **means, "interval": interval(values["bits_per_byte"]), "seeds": len(SEEDS)})
    return rows


def summarized(before: dict[str, Any], runs: list[dict[str, Any]], loop: LoopConfig) -> dict[str, Any]:
    fp32, ptq = (before[form]["bits_per_byte"] for form in ("float", "exported"))
    control_fp32, control_ptq = (of(runs, CONTROL, form) for form in ("float", "exported"))
    arms = {"nearest": of(runs, QAT, "exported"), "stochastic": of(runs, STOCHASTIC, "exported")}
    closed = {name: told((ptq - bits) / (ptq - fp32), 3) for name, bits in arms.items()}
    gap, apart = control_ptq - control_fp32, [run["max_difference"] for run in runs]
    # the ratio of means: single gaps are small enough to make a mean of ratios meaningless
    against = {name: round(float((control_ptq - bits).mean() / gap.mean()), 3) for name, bits in arms.items()}
    return {
        "ptq_gap": round(ptq - fp32, DIGITS), "control_gap": told(gap),
        "gap_closed": closed, "bar": BAR, "bar_met": {name: each["mean"] >= BAR for name, each in closed.items()},
        "gap_closed_against_control": against,
        "bar_met_against_control": {name: value >= BAR for name, value in against.items()},
        "qat_minus_control_ptq": {name: told(bits - control_ptq) for name, bits in arms.items()},
        "stochastic_minus_nearest": told(arms["stochastic"] - arms["nearest"]),
        "success_minus_control_ptq": {
            name: told(of(runs, arm, "exported", "success") - of(runs, CONTROL, "exported", "success"))
            for name, arm in (("nearest", QAT), ("stochastic", STOCHASTIC))
        },
        "trained_against_exported_difference": {
            name: float(f"{found(apart):.2g}") for name, found in (("median", np.median), ("max", np.max))
        },
        "steps": loop.steps, "learning_rate": loop.learning_rate, "seeds": len(SEEDS),
        "train_seconds": {arm: max(r["train_seconds"] for r in runs if r["arm"] == arm) for arm in (CONTROL, QAT)},
    }  # fmt: skip


def of(runs: list[dict[str, Any]], arm: str, form: str, key: str = "bits_per_byte") -> NDArray[np.float64]:
    """One value per seed, in their order."""
    return np.array([run[form][key] for run in runs if run["arm"] == arm])


def told(values: NDArray[np.float64], digits: int = DIGITS) -> dict[str, Any]:
    return {"mean": round(float(values.mean()), digits), "interval": interval(values, digits)}


def interval(values: NDArray[np.float64], digits: int = DIGITS) -> list[float]:
    """95 % over seeds (paired where the values are differences), by Student's t."""
    half = T_QUANTILE * float(values.std(ddof=1)) / len(values) ** 0.5
    return [round(float(values.mean()) - half, digits), round(float(values.mean()) + half, digits)]


if __name__ == "__main__":
    main()
