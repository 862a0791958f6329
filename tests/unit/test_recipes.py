"""Recipes for GPUs: their stages and constants, what they would cost, a rehearsal in small, and what cannot work."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contracts.job import TrainJob
from foundation.errors import InvalidConfig
from search_space import cost
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from search_space.presets import PUBLISHED_PARAMS, lfm2_350m
from trainer.data.mixture import Part, mixture_of
from trainer.data.sources import open_source
from trainer.engine.config import LoopConfig
from trainer.pipeline.costing import Device, memory_bytes
from trainer.pipeline.stage import Recipe
from trainer.recipes import RECIPES, RecipeEntry, RecipeOptions, lfm2_5_350m, planned, recipe_named, small
from trainer.recipes.config import recipe_of
from trainer.recipes.full import full
from trainer.recipes.tiny import tiny
from trainer.runs import rehearsal
from trainer.runs.cost import expected_loss, plan_of, shown, student_of
from trainer.runs.handover import job_recipe

ARCH = ArchConfig(32, 300, (LayerConfig(GatedShortConv(3), SwiGLU(64)), LayerConfig(Gqa(2, 1, 16), SwiGLU(64))))
CONFIGS = {config.name: config for config in (small.CONFIG, lfm2_5_350m.CONFIG)}
H100S = Device(8, 989e12, 0.4, price=2.0)


def loops(recipe: Recipe) -> dict[str, LoopConfig]:
    return {stage.name: stage.loop for stage in recipe.stages if hasattr(stage, "loop")}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_recipe_has_the_stages_of_full(name: str) -> None:
    names = [re.sub(r"_[2-9]$", "", stage.name) for stage in planned(name, None).stages]
    assert set(names) <= {stage.name for stage in full().stages}
    assert {stage.kind for stage in planned(name, None).stages} == {stage.kind for stage in full().stages}
    assert json.loads(json.dumps(planned(name, None).resolved()))["recipe"] == name


# a change here makes every finished folder of that recipe worthless: raise a stage's version on purpose, or keep them
DIGESTS = {"tiny": "730b7e00b77344e3", "full": "001866b8e72ce819", "small": "0373236c88de25ff",
           "lfm2_5_350m": "db50f9969a314900"}  # fmt: skip


@pytest.mark.parametrize("name", DIGESTS)
def test_finished_stages_stay_valid(name: str) -> None:
    half = recipe_named(name, None, {"scale": 0.5}) if name in ("tiny", "full") else planned(name, None)
    digests = json.dumps(half.digests(), sort_keys=True).encode()
    assert hashlib.sha256(digests).hexdigest()[:16] == DIGESTS[name]


def test_sizes_and_contexts() -> None:
    large, middle = planned("lfm2_5_350m", None), planned("small", None)
    assert cost.params(student_of(large)) == PUBLISHED_PARAMS["lfm2_350m"]
    assert 40e6 < cost.params(student_of(middle)) < 60e6
    lengths = {name: loop.length for name, loop in loops(large).items()}
    assert (lengths["pretrain"], lengths["extend"], lengths["stretch"]) == (4096, 32_768, 65_536)
    described = {stage.name: stage.resolved() for stage in large.stages}
    assert described["stretch"]["yarn_factor"] * described["stretch"]["original_length"] == 131_072
    assert [loops(middle)[name].length for name in ("pretrain", "extend", "stretch")] == [1024, 8192, 32_768]


def test_fine_tuning_takes_lfm2s_constants() -> None:
    loop = loops(planned("lfm2_5_350m", None))["sft"]
    assert (loop.schedule, loop.betas, loop.weight_decay, loop.clip) == ("cosine", (0.9, 0.95), 0.1, 1.0)
    assert loop.learning_rate * loop.share(loop.steps) == pytest.approx(1e-7)


def test_a_plan_counts_what_a_formula_counts() -> None:
    recipe = planned("lfm2_5_350m", None)
    plan = plan_of(recipe, H100S, 1_700_000_000)
    rows = {row["stage"]: row for row in plan["stages"]}
    pretrain, arch = rows["pretrain"], lfm2_350m()
    # N without norms and kernels, embedding once as head; two products a head and layer over half the row
    linears = cost.macs_per_token(arch, 0)
    attention = 6 * 2 * 16 * 64 * 2048
    assert pretrain["flops"] == pytest.approx(6 * (linears + attention) * pretrain["tokens"])
    assert linears == pytest.approx(cost.params(arch), rel=0.001)
    assert rows["teacher"]["flops"] == 2 * 1.7e9 * rows["teacher"]["teacher_tokens"]
    assert plan["total"]["gpu_hours"] == pytest.approx(plan["total"]["flops"] / (989e12 * 0.4) / 3600)
    assert plan["total"]["cost"] == pytest.approx(2 * plan["total"]["gpu_hours"])
    assert plan["total"]["hours"] == pytest.approx(plan["total"]["gpu_hours"] / 8)
    assert "Chinchilla" in plan["budget"] and "28 T" in plan["budget"]
    assert [sentence.split()[0] for sentence in plan["too_large"]] == ["stretch"]
    assert all(stage in shown(plan) for stage in rows)


def test_a_plan_of_a_check_says_that_it_is_one() -> None:
    plan = plan_of(planned("smoke", lfm2_350m()), H100S, 1_700_000_000)
    assert [row["stage"] for row in plan["stages"]] == ["data", "pretrain"]
    assert "too few to judge the model" in plan["budget"] and plan["not_counted"] == "nothing"


def test_memory_falls_with_more_gpus_and_grows_with_rows() -> None:
    loop = LoopConfig(batch=64, micro_batch=2, length=1024)
    one, many = (memory_bytes(lfm2_350m(), loop.batch, loop.length, loop.micro_batch, gpus) for gpus in (1, 8))
    assert one - many == pytest.approx(16 * PUBLISHED_PARAMS["lfm2_350m"] * 7 / 8, rel=1e-6)
    assert memory_bytes(lfm2_350m(), loop.batch, loop.length, 4, 8) > many


def test_hoffmanns_fit_at_chinchilla() -> None:
    assert expected_loss(70e9, 1.4e12) == pytest.approx(1.937, abs=0.001)


def test_shares_of_a_mixture_are_kept(small_text: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for folder, word in ((first, "left "), (second, "right ")):
        folder.mkdir()
        for index in range(60):
            (folder / f"{index}.txt").write_text(word * 100 + str(index))
    spec = mixture_of([Part(f"directory:{first}", 0.75), Part(f"directory:{second}", 0.25)], 20_000)
    texts = list(open_source(spec, tmp_path).documents())
    left = sum(len(text) for text in texts if text.startswith("left"))
    assert left / sum(map(len, texts)) == pytest.approx(0.75, abs=0.05)
    with pytest.raises(InvalidConfig, match="sum to 1, these to 0.9"):
        mixture_of([Part("a", 0.5), Part("b", 0.4)], 1000)
    with pytest.raises(InvalidConfig, match="is not a mixture"):
        open_source("mixture:many 1=python:docs", tmp_path)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_every_source_states_its_share_and_licence(config: Any) -> None:
    assert sum(part.share for part in config.parts) == pytest.approx(1)
    assert all(part.licence and part.source.startswith("datasets:") for part in config.parts)


@pytest.fixture
def narrow() -> Iterator[None]:
    """``small`` in another vocabulary."""
    config = replace(small.CONFIG, name="narrow", vocabulary=300)
    with RECIPES.temporarily({"narrow": RecipeEntry("a test", lambda arch, options: recipe_of(config, arch, options))}):
        yield


def test_a_rehearsal_runs_a_step_of_every_stage(
    small_text: Path, small_teacher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, narrow: None
) -> None:
    """In small: another architecture, the result's export left out."""
    nothing = {"files": [], "devices": [], "architecture": "none"}
    monkeypatch.setattr("trainer.stages.result.write_result", lambda *_: nothing)
    told: list[str] = []
    text = (Part(f"directory:{small_text}", 1),)
    rows = rehearsal.rehearse("narrow", ARCH, tmp_path, told.append, small_teacher, text)
    assert [row["stage"] for row in rows] == [stage.name for stage in planned("small", None).stages]
    assert all(row["peak_bytes"] > 0 for row in rows)
    steps = {row["stage"]: row["metrics"]["tokens"] for row in rows if "tokens_per_s" in row["metrics"]}
    assert steps == {"pretrain": 128, "extend": 256, "stretch": 512, "sft_first": 512, "sft": 512,
                     "sft_reasoning": 512, "sft_tools": 512, "sft_agent": 512, "qat": 512}  # fmt: skip
    assert told[-1].startswith("narrow: every stage passed")
    assert list((tmp_path / "stages").iterdir()) == []
    assert json.loads((tmp_path / "runs/rehearsal-narrow/rehearsal.json").read_text())["stages"] == rows


def test_a_stand_in_has_as_many_tokens_as_asked(small_text: Path, tmp_path: Path) -> None:
    text = (Part(f"directory:{small_text}", 1),)
    folder = rehearsal.stand_in(tmp_path, 310, text)
    assert json.loads((folder / "config.json").read_text())["vocab_size"] == 310
    with pytest.raises(InvalidConfig, match="give more text"):
        rehearsal.stand_in(tmp_path, 60_000, text)


def test_too_little_memory_is_said_before() -> None:
    with pytest.raises(InvalidConfig, match="354,483,968 parameters takes about 7.8 GB"):
        rehearsal.check_memory(lfm2_350m(), free_bytes=4_000_000_000)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: recipe_named("huge"), "unknown recipe 'huge'; known: smoke, short, heal, tiny, full, small, lfm2_5"),
        (lambda: recipe_named("small", None, {"scale": 50.0}), "scale 50.0 is not between"),
        (lambda: recipe_named("lfm2_5_350m"), "head of 65,536 tokens cut from its teacher's, and smollm2-135m has 49"),
        (lambda: Device(0, 1e12, 0.4), "no device"),
    ],
    ids=["name", "scale", "vocabulary", "device"],
)
def test_what_cannot_work_is_said(call: Any, sentence: str) -> None:
    with pytest.raises(InvalidConfig, match=sentence):
        call()


def test_a_study_s_memory_budget_is_the_result_s() -> None:
    job = TrainJob(arch=ARCH.to_dict(), recipe="full", budget_bytes=5e7)
    plain, bounded = (job_recipe(job.model_copy(update={"budget_bytes": b})).stages[-1] for b in (None, 5e7))
    assert (plain.budget_bytes, bounded.budget_bytes) == (100e6, 5e7)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"recipe": "huge"}, "unknown recipe 'huge'; known: smoke, short, heal, tiny, full, small, lfm2_5_350m"),
        ({"recipe": "tiny", "options": {"speed": 2}}, "tiny has no option 'speed'; known: teacher, processes, scale"),
        ({"recipe": "tiny", "options": {"scale": "big"}}, "tiny: option scale takes a number, e.g. scale=0.5"),
        ({"recipe": "smoke", "options": {"scale": 0.5}}, "smoke has no option 'scale'; known: steps, batch"),
        ({"recipe": "lfm2_5_350m"}, "a head of 65,536 tokens"),
    ],
    ids=["recipe", "option", "value", "short", "vocabulary"],
)
def test_a_job_that_cannot_work_is_said(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidConfig, match=sentence):
        job_recipe(TrainJob(arch=ARCH.to_dict(), **asked))


def test_a_jobs_seed_reaches_every_loop() -> None:
    job = TrainJob(arch=ARCH.to_dict(), recipe="tiny", seed=7, options={"scale": 0.1})
    assert {loop.seed for loop in loops(job_recipe(job)).values()} == {7}
    assert job_recipe(job.model_copy(update={"seed": 0})).digests() == tiny(ARCH, RecipeOptions(scale=0.1)).digests()
