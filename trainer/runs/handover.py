"""From a leased training job to what the coordinator gets: the recipe run, packed, exported, with the job that measures
it."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from contracts.job import MeasureJob, TrainJob, TrainResult
from contracts.plan import PROTOCOLS, Check, Plan
from nas.export.compose import build_plan
from nas.export.one_piece import one_piece_chain
from search_space.arch import ArchConfig
from trainer.evaluation.files import EVALUATION
from trainer.pipeline.chain import OnEvent, run_recipe
from trainer.pipeline.run_folder import curve_of
from trainer.pipeline.stage import Recipe
from trainer.recipes import recipe_named
from trainer.results.program import export
from trainer.results.records import RunRecord, StageRecord, run_record
from trainer.stages.result import ResultStage

MAX_LOSSES = 1000  # in a result; the curve has them all
Upload = Callable[[Path], str]


@dataclass(frozen=True)
class Trained:
    """What a run left: ``seconds`` of work, ``packed`` the tar of ``model`` and what belongs to it."""

    recipe: str
    steps: int
    tokens: int
    seconds: float
    losses: list[float]
    held_out_bits_per_byte: dict[str, float]
    model: Path
    packed: Path


def job_recipe(job: TrainJob) -> Recipe:
    """Raises InvalidConfig with one sentence for a recipe, option or architecture that cannot work."""
    recipe = bounded(recipe_named(job.recipe, ArchConfig.from_dict(job.arch), job.options), job.budget_bytes)
    return recipe.seeded(job.seed) if job.seed else recipe


def bounded(recipe: Recipe, budget_bytes: float | None) -> Recipe:
    """The same chain whose result is held against the study's memory budget, where it has one."""
    if budget_bytes is None:
        return recipe
    stages = (replace(s, budget_bytes=budget_bytes) if isinstance(s, ResultStage) else s for s in recipe.stages)
    return replace(recipe, stages=tuple(stages))


def run_job(job: TrainJob, root: Path, run: str, on_event: OnEvent) -> Trained:
    """The whole recipe under ``root``; called again it goes on where it was."""
    run_recipe(job_recipe(job), root, run, on_event=on_event)
    record = run_record(root, run)
    subject = record.stage(None)
    loops = [stage for stage in record.stages if "loop" in stage.settings]
    first = next(stage for stage in loops if "held_out_bits_per_byte" in stage.metrics)
    losses = [row["loss"] for row in curve_of(root, run) if "loss" in row]  # rounds of RL have a success instead
    return Trained(
        record.recipe, sum(stage.settings["loop"]["steps"] for stage in loops),
        int(sum(stage.metrics["tokens"] for stage in loops)), sum(stage.seconds for stage in record.stages),
        losses[:: 1 + len(losses) // MAX_LOSSES], first.metrics["held_out_bits_per_byte"], subject.model,
        _packed_result(record, subject, root / "runs" / run / "result.tar"),
    )  # fmt: skip


def _packed_result(record: RunRecord, subject: StageRecord, path: Path) -> Path:
    """The last model as ``checkpoint/``, every evaluation by its stage, and what each stage was and brought."""
    with tarfile.open(path, "w") as archive:
        for file in sorted(subject.model.iterdir()):
            archive.add(file, arcname=f"checkpoint/{file.name}")
        for stage in record.stages:
            if (stage.folder / EVALUATION).exists():
                archive.add(stage.folder / EVALUATION, arcname=f"evaluations/{stage.name}.json")
        described = path.with_name("stages.json")
        stages = {s.name: {**s.settings, "metrics": s.metrics, "seconds": s.seconds} for s in record.stages}
        described.write_text(json.dumps({"recipe": record.recipe, "notes": record.notes, "stages": stages}, indent=1))
        archive.add(described, arcname="stages.json")
    return path


def hand_over(job: TrainJob, trained: Trained, cache: Path, upload: Upload) -> TrainResult:
    """The model as a program, both uploaded, and how a device measures it."""
    exported = export(trained.model, cache, job.quantization)
    plan = trained_plan(ArchConfig.from_dict(exported["arch"]), exported)
    return TrainResult(
        recipe=trained.recipe, steps=trained.steps, tokens=trained.tokens, seconds=trained.seconds,
        losses=trained.losses, held_out_bits_per_byte=trained.held_out_bits_per_byte,
        checkpoint=upload(trained.packed), program=upload(Path(exported["program"])), program_bytes=exported["bytes"],
        measure=MeasureJob(plan=plan, form="trained"),
    )  # fmt: skip


def trained_plan(arch: ArchConfig, exported: dict[str, Any]) -> Plan:
    """How a device measures the trained program: the quick protocol, after parity with eager torch."""
    return build_plan(
        arch, one_piece_chain(arch, exported["digest"]), PROTOCOLS["quick"](2), cache_dtype="fp32",
        check=Check(**exported["check"]), canary=None, name=f"trained-{arch.digest[:12]}",
    )  # fmt: skip
