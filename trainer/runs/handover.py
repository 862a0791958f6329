"""From a leased training job to what the coordinator gets: the recipe run, packed, exported, with the job that measures
it. ``smoke`` and ``short`` are one stage on shipped text; every other name is a recipe of ``trainer.recipes``."""

from __future__ import annotations

import json
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from contracts.job import MeasureJob, TrainJob, TrainResult
from contracts.plan import PROTOCOLS, Check, Plan
from contracts.training import MAX_LINES, CurveLine, StageProgress, TrainingProgress, TrainingReply
from foundation.errors import InvalidConfig
from nas.export.compose import build_plan
from nas.export.one_piece import one_piece_chain
from search_space.arch import ArchConfig
from trainer.evaluation.files import EVALUATION
from trainer.pipeline.chain import run_recipe
from trainer.pipeline.run_folder import curve_of
from trainer.pipeline.stage import Recipe
from trainer.pretrain import RECIPES as SHORT
from trainer.pretrain import PretrainRecipe, PretrainResult, pretrain
from trainer.recipes import RECIPES, recipe_named
from trainer.results.program import export
from trainer.results.records import RunRecord, StageRecord, run_record
from trainer.stages.result import ResultStage
from trainer.teacher.model import SMOLLM2

MAX_LOSSES = 1000  # in a result; the curve has them all
TELL_S = 2.0
Upload = Callable[[Path], str]
Tell = Callable[[float, str], None]


@dataclass(frozen=True)
class Trained:
    """What both kinds of recipe leave: ``seconds`` of work, ``packed`` the tar of ``model`` and what belongs to it."""

    recipe: str
    steps: int
    tokens: int
    seconds: float
    losses: list[float]
    held_out_bits_per_byte: dict[str, float]
    model: Path
    packed: Path


def check(job: TrainJob) -> None:
    """Raises InvalidConfig with one sentence for a recipe, option or architecture that cannot work."""
    if job.recipe in SHORT:
        short_recipe(job)
    else:
        chain_recipe(job)


def short_recipe(job: TrainJob) -> PretrainRecipe:
    try:
        return replace(SHORT[job.recipe], seed=job.seed, **job.options)
    except TypeError:
        known = ", ".join(PretrainRecipe.__dataclass_fields__)
        raise InvalidConfig(f"recipe {job.recipe}: options {sorted(job.options)} do not fit; known: {known}") from None


def chain_recipe(job: TrainJob) -> Recipe:
    """``options``: teacher, processes and scale, as `hilnas train run` has them."""
    if job.recipe not in RECIPES:
        raise InvalidConfig(f"unknown recipe {job.recipe!r}; known recipes: {', '.join((*SHORT, *RECIPES))}")
    known: dict[str, Any] = {"teacher": SMOLLM2, "processes": 1, "scale": 1.0}
    if unknown := sorted(set(job.options) - set(known)):
        raise InvalidConfig(f"recipe {job.recipe} has no option {unknown[0]!r}; known: {', '.join(known)}")
    options = known | job.options
    for name, value in options.items():
        if not isinstance(value, int | float if name == "scale" else type(known[name])) or isinstance(value, bool):
            raise InvalidConfig(f"option {name} of recipe {job.recipe} cannot be {value!r}; {known[name]!r} works")
    recipe = bounded(recipe_named(job.recipe, ArchConfig.from_dict(job.arch), **options), job.budget_bytes)
    return seeded(recipe, job.seed) if job.seed else recipe


def bounded(recipe: Recipe, budget_bytes: float | None) -> Recipe:
    """The same chain whose result is held against the study's memory budget, where it has one."""
    if budget_bytes is None:
        return recipe
    stages = (replace(s, budget_bytes=budget_bytes) if isinstance(s, ResultStage) else s for s in recipe.stages)
    return replace(recipe, stages=tuple(stages))


def seeded(recipe: Recipe, seed: int) -> Recipe:
    """The same chain with another seed of weights and of the order of rows."""
    stages = tuple(
        replace(stage, loop=replace(stage.loop, seed=seed)) if hasattr(stage, "loop") else stage  # type: ignore[call-arg]
        for stage in recipe.stages
    )
    return replace(recipe, stages=stages)


def run_short(job: TrainJob, folder: Path, send: Callable[[TrainingProgress], TrainingReply], tell: Tell) -> Trained:
    """One stage on the text that every Python ships; its curve is told at its end."""
    recipe = short_recipe(job)

    stage, last = StageProgress(name="pretrain", kind="pretrain", state="running"), [0.0]

    def told(share: float, message: str) -> None:
        tell(share, message)
        if time.monotonic() - last[0] > TELL_S:
            last[0] = time.monotonic()
            send(_short_progress(stage.model_copy(update={"share": share, "message": message})))

    done = pretrain(ArchConfig.from_dict(job.arch), recipe, folder, told)
    metrics = {"held_out_bits_per_byte": done.held_out_bits_per_byte, "tokens": done.tokens}
    ended = {"state": "done", "share": 1.0, "seconds": round(done.seconds, 1), "metrics": metrics}
    stage = stage.model_copy(update=ended)
    lines = [CurveLine(stage="pretrain", step=step, values={"loss": loss}) for step, loss in enumerate(done.losses)]
    for at in range(0, len(lines), MAX_LINES):
        send(_short_progress(stage).model_copy(update={"curve": lines[at : at + MAX_LINES]}))
    return Trained(
        recipe.name, recipe.steps, done.tokens, done.seconds, done.losses, done.held_out_bits_per_byte, done.folder,
        _packed_checkpoint(done),
    )  # fmt: skip


def _short_progress(stage: StageProgress) -> TrainingProgress:
    return TrainingProgress(share=stage.share, message=f"{stage.name}: {stage.message or 'done'}", stages=[stage])


def _packed_checkpoint(run: PretrainResult) -> Path:
    path = run.folder.with_suffix(".tar")
    with tarfile.open(path, "w") as archive:
        for file in sorted(run.folder.iterdir()):
            archive.add(file, arcname=f"checkpoint/{file.name}")
    return path


def run_chain(job: TrainJob, root: Path, run: str, tell: Callable[[str], None]) -> Trained:
    """The whole recipe under ``root``; called again it goes on where it was."""
    run_recipe(chain_recipe(job), root, run, tell=tell)
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
