"""A finished model in float, quantized after training, and trained as exported with either rounding: held-out text and
tasks over three seeds, with a control that trains as long in float.

The control is what keeps longer training from passing for QAT: its gap lies between its own float weights and the same
quantized.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from benchmarks.intervals import SEEDS, interval, mean_with_interval
from benchmarks.record import publish
from benchmarks.resume import KeptRows
from search_space.modeling.model import HilnasForCausalLM
from trainer.data.packing import PackedStream
from trainer.data.vocabulary import VOCABULARY, Vocabulary
from trainer.engine.config import LoopConfig
from trainer.engine.evaluate import bits_per_byte
from trainer.engine.model_dir import ModelDir
from trainer.examples.success import success
from trainer.pipeline.chain import run_stage
from trainer.quantization.exported import differences
from trainer.quantization.modules import quantized
from trainer.recipes.tiny import TASKS
from trainer.results.records import run_record
from trainer.stages.qat import QatStage
from trainer.tasks.registry import task_named

AFTER = ("recipe_tiny",)  # whose run it reads
LOOP = LoopConfig(
    steps=50, batch=16, micro_batch=8, length=256, autocast=True, kd_weight=0.0, learning_rate=5e-4, warmup=5,
    decay_share=0.9, final_share=0.01, in_order=True, save_every=10_000,
)  # fmt: skip
CONTROL, QAT, STOCHASTIC = "float, as long", "QAT", "QAT, stochastic rounding"
BAR, DIGITS = 0.5, 5
Scores = dict[str, float]
Row = dict[str, Any]


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--root", type=Path, default=Path("var/train"), help="of runs")
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
    loop = replace(LOOP, steps=given.steps, learning_rate=given.learning_rate)
    before, runs = measure(given.root.resolve(), given.run, given.start, given.kept, loop, given.rows, given.count)
    publish("qat", {**judge(before, runs), **setting(runs, loop)}, table(before, runs), runs)


def measure(
    root: Path, run: str, start: str, kept_folder: Path, loop: LoopConfig, rows: int, count: int
) -> tuple[Row, list[Row]]:
    """The start, and every arm under every seed."""
    record = run_record(root, run)
    folders = {stage.name: stage.folder for stage in record.stages} | {start: record.stage(start).folder}
    kept = KeptRows(kept_folder, "qat", [folders[start].name, asdict(loop), rows, count])
    exam = Exam(folders["data"], rows, count)
    before = kept.once("start", 0, lambda: exam.both(ModelDir(folders[start]).load()))
    arms = {
        CONTROL: QatStage(start=start, rounding=None, eval_rows=1),
        QAT: QatStage(start=start, rounding="nearest", eval_rows=1),
        STOCHASTIC: QatStage(start=start, rounding="stochastic", eval_rows=1),
    }

    def one(arm: str, seed: int) -> Row:
        return kept.once(arm, seed, lambda: trained(arms[arm], replace(loop, seed=seed), folders, exam))

    return before, [one(arm, seed) for seed in SEEDS for arm in arms]


class Exam:
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


def trained(stage: QatStage, loop: LoopConfig, folders: dict[str, Path], exam: Exam) -> Row:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "stages" / stage.kind
        record = run_stage(replace(stage, loop=loop), folder, {key: folders[key] for key in stage.inputs})
        scores = exam.both(ModelDir(folder).load())
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
        bounds = interval(values["bits_per_byte"], DIGITS)
        rows.append({"model": name, **means, "interval": bounds, "seeds": len(SEEDS)})
    return rows


def judge(before: Row, runs: list[Row]) -> dict[str, Any]:
    """Each rounding against the bar: the share of the gap that it closes, from the start and from the control."""
    fp32, ptq = (before[form]["bits_per_byte"] for form in ("float", "exported"))
    control_fp32, control_ptq = (of(runs, CONTROL, form) for form in ("float", "exported"))
    arms = {"nearest": of(runs, QAT, "exported"), "stochastic": of(runs, STOCHASTIC, "exported")}
    closed = {name: change((ptq - bits) / (ptq - fp32), 3) for name, bits in arms.items()}
    gap, apart = control_ptq - control_fp32, [run["max_difference"] for run in runs]
    # the ratio of means: single gaps are small enough to make a mean of ratios meaningless
    against = {name: round(float((control_ptq - bits).mean() / gap.mean()), 3) for name, bits in arms.items()}
    return {
        "ptq_gap": round(ptq - fp32, DIGITS), "control_gap": change(gap),
        "gap_closed": closed, "bar": BAR, "bar_met": {name: each["mean"] >= BAR for name, each in closed.items()},
        "gap_closed_against_control": against,
        "bar_met_against_control": {name: value >= BAR for name, value in against.items()},
        "qat_minus_control_ptq": {name: change(bits - control_ptq) for name, bits in arms.items()},
        "stochastic_minus_nearest": change(arms["stochastic"] - arms["nearest"]),
        "success_minus_control_ptq": {
            name: change(of(runs, arm, "exported", "success") - of(runs, CONTROL, "exported", "success"))
            for name, arm in (("nearest", QAT), ("stochastic", STOCHASTIC))
        },
        "trained_against_exported_difference": {
            name: float(f"{found(apart):.2g}") for name, found in (("median", np.median), ("max", np.max))
        },
    }  # fmt: skip


def setting(runs: list[Row], loop: LoopConfig) -> dict[str, Any]:
    return {
        "steps": loop.steps, "learning_rate": loop.learning_rate, "seeds": len(SEEDS),
        "train_seconds": {arm: max(r["train_seconds"] for r in runs if r["arm"] == arm) for arm in (CONTROL, QAT)},
    }  # fmt: skip


def of(runs: list[dict[str, Any]], arm: str, form: str, key: str = "bits_per_byte") -> NDArray[np.float64]:
    """One value per seed, in their order."""
    return np.array([run[form][key] for run in runs if run["arm"] == arm])


def change(values: NDArray[np.float64], digits: int = DIGITS) -> dict[str, Any]:
    return mean_with_interval(values, digits)


if __name__ == "__main__":
    main()
