"""Preference losses against TRL and against closed forms, and doom loops before and after on the same prompts.

TRL's own DPOTrainer computes ``sigmoid_norm`` on the pairs, the policy and the reference that ours computes on.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import publish
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from search_space.modeling.families.lfm2 import to_lfm2
from search_space.modeling.model import HilnasForCausalLM, build_model
from trainer.data.token_dir import TokenDir
from trainer.engine.model_dir import ModelDir
from trainer.evaluation.doom_loops import doom_loops
from trainer.evaluation.subject import Settings, open_subject
from trainer.evaluation.values import Metric, difference
from trainer.losses.preference import PREFERENCE_LOSSES
from trainer.pipeline.chain import run_stage
from trainer.preference.pairs import Pair
from trainer.preference.train import read
from trainer.recipes.full import settings
from trainer.recipes.tiny import TASKS
from trainer.results.records import run_record
from trainer.stages.pairs import PairsStage
from trainer.stages.preference import PreferenceStage
from trainer.teacher.directory import SMOLLM2, identity

AFTER = ("recipe_tiny",)  # whose run it reads
BETA, BAR = 5.0, 1e-5
LAYERS = tuple(LayerConfig(mixer, SwiGLU(96)) for mixer in (GatedShortConv(3), Gqa(4, 2, 16)))


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--root", type=Path, default=Path("var/train"), help="of runs")
    options.add_argument("--run", default="recipe_tiny", help="whose model and text are taken")
    options.add_argument("--start", default="merge_2", help="the stage that left the model")
    options.add_argument("--count", type=int, default=200, help="prompts for doom loops, half of them openings")
    given = options.parse_args()
    measured = measure(given.root.resolve(), given.run, given.start, given.count)
    rows = [{"loss": row["loss"], **{key: _shown(row[key]) for key in ("greedy", "sampled")}}
            for row in measured["doom_loops"]]  # fmt: skip
    publish("preference", {**judge(measured), "trl": version("trl")}, rows, measured)


def measure(root: Path, run: str, start: str, count: int) -> dict[str, Any]:
    """``losses``: largest differences. ``doom_loops``: a row for the start and one for each loss."""
    record = run_record(root, run)
    folders = {stage.name: stage.folder for stage in record.stages} | {start: record.stage(start).folder}
    return {"losses": losses_compared(), "doom_loops": loops_compared(folders, root, start, count)}


def judge(measured: dict[str, Any]) -> dict[str, Any]:
    """The bar is for both differences; of doom loops there shall be fewer than before."""
    compared = measured["losses"]
    return {
        "max_difference": compared["ln_dpo, TRL's sigmoid_norm"], "bar": BAR,
        "max_difference_closed_forms": max(value for key, value in compared.items() if "closed" in key),
        "doom_loops": {row["loss"]: {key: row[key] for key in ("greedy", "sampled")} for row in measured["doom_loops"]},
    }  # fmt: skip


def losses_compared() -> dict[str, float]:
    """Largest difference over random pairs, each with random policy and reference."""
    found: dict[str, float] = {}
    for seed in range(3):
        policy, reference = _model(seed), _model(100 + seed)
        pairs = _pairs(seed)
        with torch.no_grad():
            ours = [side - other for side, other in zip(read(policy, pairs), read(reference, pairs), strict=True)]
        values = {name: PREFERENCE_LOSSES[name](*ours, BETA) for name in PREFERENCE_LOSSES}
        theirs = _trl_loss(policy, reference, pairs)
        differences = {"ln_dpo, TRL's sigmoid_norm": abs(float(values["ln_dpo"].mean()) - theirs)}
        for name in PREFERENCE_LOSSES:
            closed = [_closed(name, c, r) for c, r in zip(ours[0].tolist(), ours[1].tolist(), strict=True)]
            pairwise = zip(values[name].tolist(), closed, strict=True)
            differences[f"{name}, closed form"] = max(abs(a - b) for a, b in pairwise)
        found = {key: max(value, found.get(key, 0.0)) for key, value in differences.items()}
    return found


def _closed(name: str, chosen: float, rejected: float) -> float:
    """Written out in float64 from the report's formula."""
    better, worse = BETA * chosen, BETA * rejected
    sigmoid = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    apart = sigmoid(better) - sigmoid(worse)
    return {
        "ln_dpo": -math.log(sigmoid(better - worse)), "ln_apo_zero": -apart,
        "joint": -math.log(sigmoid(better - worse - 0.1)) - 0.2 * apart,
    }[name]  # fmt: skip


def _trl_loss(policy: HilnasForCausalLM, reference: HilnasForCausalLM, pairs: list[Pair]) -> float:
    """Of TRL's trainer on one batch of all pairs."""
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast
    from trl import DPOConfig, DPOTrainer

    rows = [{"prompt_ids": p.prompt, "chosen_ids": p.chosen, "rejected_ids": p.rejected} for p in pairs]
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=_words(), pad_token="0", eos_token="1")
        config = DPOConfig(
            output_dir=folder, loss_type=["sigmoid_norm"], beta=BETA, use_cpu=True, bf16=False, report_to=[],
            per_device_train_batch_size=len(pairs), max_length=None, disable_dropout=True, gradient_checkpointing=False,
        )  # fmt: skip
        text = Dataset.from_list([{"prompt": "2 3", "chosen": " 4", "rejected": " 5"}] * len(pairs))
        # as Lfm2ForCausalLM: TRL reaches into stock models
        theirs, fixed = to_lfm2(policy), to_lfm2(reference)
        trainer = DPOTrainer(theirs, fixed, config, train_dataset=text, processing_class=tokenizer)
        batch = trainer.data_collator(rows)
        with torch.no_grad():
            return float(trainer.compute_loss(theirs.train(), batch))


def _words() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({str(i): i for i in range(300)}, unk_token="0"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    return made


def _model(seed: int) -> HilnasForCausalLM:
    """Weights large enough that policy and reference differ."""
    model = build_model(ArchConfig(64, 300, LAYERS), seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.data = torch.randn(parameter.shape, generator=generator) * parameter.shape[1] ** -0.5
    return model


def _pairs(seed: int) -> list[Pair]:
    draw = torch.Generator().manual_seed(seed)
    ids = lambda n: torch.randint(3, 300, (n,), generator=draw).tolist()  # noqa: E731
    return [Pair(ids(3 + i % 5), ids(2 + 3 * i % 7), ids(2 + 5 * i % 11)) for i in range(16)]


def loops_compared(folders: dict[str, Path], root: Path, start: str, count: int) -> list[dict[str, Any]]:
    """Doom loops of the start and of a model for every loss, on pairs of one jury."""
    given = settings(1.0)
    stages = root / "stages"
    pairs = PairsStage(start, SMOLLM2, identity(SMOLLM2), TASKS, given.texts, given.per_task,
                       teacher_share=given.teacher_share, jury=given.jury, rollouts=given.rollouts)  # fmt: skip
    with tempfile.TemporaryDirectory(dir=stages) as scratch:
        inputs = {start: folders[start], "data": folders["data"]}
        inputs["preference_data"] = Path(scratch) / "pairs"
        run_stage(pairs, inputs["preference_data"], inputs, _show_progress)
        before = _loops(folders[start], folders["data"], count)
        rows = [{"loss": "before", **{kind: _with_change(metric, None) for kind, metric in before.items()}}]
        for loss in PREFERENCE_LOSSES:
            stage, folder = PreferenceStage(start, loss=loss, loop=given.preference), Path(scratch) / loss
            made = run_stage(replace(stage, label=loss), folder, inputs, _show_progress)["metrics"]
            after = _loops(folder, folders["data"], count)
            changed = {kind: _with_change(metric, before[kind]) for kind, metric in after.items()}
            rows.append({"loss": loss, **changed, "training": made})
    return rows


def _loops(stage: Path, data: Path, count: int) -> dict[str, Metric]:
    subject_settings = Settings(count=count, max_new_tokens=256)
    with tempfile.TemporaryDirectory() as folder:
        found = list(doom_loops(open_subject(ModelDir(stage), TokenDir(data), Path(folder), subject_settings)))
    return {metric.name.split("/")[1]: metric for metric in found}


def _with_change(metric: Metric, before: Metric | None) -> dict[str, Any]:
    shown = {"ratio": metric.value, "low": round(metric.low, 4), "high": round(metric.high, 4), "n": metric.n}
    if before is None:
        return shown
    gained = difference(before, metric)
    return {**shown, "change": round(gained.value, 4), "change_low": round(gained.low, 4),
            "change_high": round(gained.high, 4)}  # fmt: skip


def _shown(row: dict[str, Any]) -> str:
    text = f"{row['ratio']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
    if "change" not in row:
        return text
    return f"{text}, {row['change']:+.3f} ({row['change_low']:+.3f} to {row['change_high']:+.3f})"


def _show_progress(share: float, message: str) -> None:
    print(f"{share:.0%} {message}", flush=True)


if __name__ == "__main__":
    main()
