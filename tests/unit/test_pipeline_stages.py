"""The chain from documents to a pretrained student, with a teacher of two layers from a directory."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from trainer.engine.config import LoopConfig
from trainer.pipeline.chain import finished, run_recipe, stage_folders
from trainer.pipeline.records import Records
from trainer.pipeline.run_folder import curve_of, state_of
from trainer.pipeline.stage import Recipe, StageFailed
from trainer.recipes import RecipeOptions, recipe_named
from trainer.recipes.tiny import tiny, tiny_student
from trainer.runs.local import stop
from trainer.stages.data import DataStage
from trainer.stages.pretrain import PretrainStage
from trainer.stages.teacher import TeacherStage
from trainer.teacher.directory import identity

ARCH = ArchConfig(32, 300, (LayerConfig(GatedShortConv(3), SwiGLU(48)), LayerConfig(Gqa(2, 1, 16), SwiGLU(48))))
LOOP = LoopConfig(steps=12, batch=4, micro_batch=2, length=32, warmup=2, save_every=4)


@pytest.fixture(scope="module")
def text(small_text: Path) -> Path:
    return small_text


@pytest.fixture(scope="module")
def teacher(small_teacher: str) -> str:
    return small_teacher


def recipe(text: Path, teacher: str, **loop: object) -> Recipe:
    teacher_id, settings = identity(teacher), replace(LOOP, **loop)  # type: ignore[arg-type]
    data = DataStage(teacher, teacher_id, (f"directory:{text}",), 300, max_tokens=6_000, held_out_share=0.2)
    teaching = TeacherStage(teacher, teacher_id, k=8, window=64, shard_tokens=1024)
    return Recipe("small", (data, teaching, PretrainStage(ARCH.to_dict(), loop=settings)))


@pytest.fixture(scope="module")
def root(text: Path, teacher: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the recipe ran once."""
    root = tmp_path_factory.mktemp("root")
    run_recipe(recipe(text, teacher), root, "first")
    return root


def test_the_chain_lowers_bits_per_byte_and_leaves_a_loadable_student(root, text, teacher) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folders = stage_folders(recipe(text, teacher), root)
    metrics = {name: finished(folder)["metrics"] for name, folder in folders.items()}  # type: ignore[index]
    bits = metrics["pretrain"]["held_out_bits_per_byte"]
    assert bits["after"] < bits["before"]
    assert 0 < metrics["pretrain"]["embedding_share"] < 1
    assert 0.5 < metrics["teacher"]["answered_share"] < 1
    assert 0 < metrics["teacher"]["mean_top_k_mass"] <= 1
    assert all(row["mass"] > 0 for row in Records(folders["pretrain"] / "curve.jsonl").read())
    tokenizer = AutoTokenizer.from_pretrained(folders["pretrain"] / "model")
    student = AutoModelForCausalLM.from_pretrained(folders["pretrain"] / "model")
    ids = tokenizer("the student reads", return_tensors="pt").input_ids
    assert student(ids).logits.shape == (1, ids.shape[1], 300)
    card = (folders["data"] / "DATA_CARD.md").read_text()
    assert f"directory {text.name} | as its owner says | 40" in card


def test_a_run_shows_its_state_and_curves(root: Path) -> None:
    state = state_of(root, "first")
    assert [entry["state"] for entry in state["stages"].values()] == ["done"] * 3
    assert not state["running"]
    assert [row["step"] for row in curve_of(root, "first")] == list(range(12))
    assert not stop(root, "first")
    with pytest.raises(InvalidConfig, match="no run 'other' under .*; there: first"):
        state_of(root, "other")


def test_a_corrupt_shard_is_made_again_alone(root: Path, text: Path, teacher: str) -> None:
    folder = stage_folders(recipe(text, teacher), root)["teacher"]
    shards = sorted((folder / "cache").glob("shard-*.bin"))
    before = [shard.read_bytes() for shard in shards]
    times = [shard.stat().st_mtime_ns for shard in shards]
    shards[1].write_bytes(before[1][:-1] + bytes([before[1][-1] ^ 1]))
    run_recipe(recipe(text, teacher), root, "again")
    assert [shard.read_bytes() for shard in shards] == before
    assert [a == b for a, b in zip(times, (s.stat().st_mtime_ns for s in shards), strict=True)].count(False) == 1


def test_a_bad_loss_stops_the_stage_and_keeps_its_checkpoints(root: Path, text: Path, teacher: str) -> None:
    bad = recipe(text, teacher, learning_rate=1e30, clip=1e9, save_every=1)
    for _ in range(2):
        with pytest.raises(StageFailed, match="stage pretrain stopped: the loss became .*goes on"):
            run_recipe(bad, root, "bad")
    assert list((stage_folders(bad, root)["pretrain"] / "checkpoints").glob("step-*"))
    assert finished(stage_folders(bad, root)["pretrain"]) is None


def test_a_full_disk_is_said_and_the_next_start_goes_on(root, text, teacher, monkeypatch) -> None:
    import errno

    from trainer.engine import train

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    short = recipe(text, teacher, seed=5)
    with monkeypatch.context() as patched:
        patched.setattr(train, "save", full)
        with pytest.raises(StageFailed, match="stage pretrain stopped: the disk of .* is full"):
            run_recipe(short, root, "full")
    assert run_recipe(short, root, "full")["pretrain"]["metrics"]["tokens"] == 12 * 4 * 32


def test_more_processes_are_the_same_stage(text: Path, teacher: str) -> None:
    one = recipe(text, teacher)
    two = replace(one, stages=(*one.stages[:2], replace(one.stages[2], processes=2)))  # type: ignore[call-arg]
    assert one.digests() == two.digests()


def test_an_architecture_with_another_vocabulary_is_refused(root: Path, text: Path, teacher: str) -> None:
    one = recipe(text, teacher)
    other = replace(one, stages=(*one.stages[:2], PretrainStage(replace(ARCH, vocab_size=301).to_dict(), loop=LOOP)))
    with pytest.raises(StageFailed, match="the architecture has 301 tokens and the data 300"):
        run_recipe(other, root, "other vocabulary")


def test_recipes_are_frozen_values_that_json_holds(tmp_path: Path) -> None:
    described = json.loads(json.dumps(tiny().resolved()))
    assert [stage["stage"] for stage in described["stages"]][:4] == ["data", "teacher", "pretrain", "evaluate"]
    assert tiny().digests() == tiny(tiny_student()).digests()
    assert tiny(options=RecipeOptions(scale=0.5)).digests()["data"] != tiny().digests()["data"]
    with pytest.raises(InvalidConfig, match="known: smoke, short, heal, tiny"):
        recipe_named("huge")
    with pytest.raises(InvalidConfig, match="neither 'smollm2-135m' nor a Hugging Face directory"):
        identity(str(tmp_path))
