"""The chain from a pretrained student to a merged one, in small: every stage leaves what the next one reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from search_space.modeling.model import HilnasForCausalLM
from search_space.rope import Yarn
from trainer.engine.config import LoopConfig
from trainer.examples.files import read_examples
from trainer.pipeline.chain import finished, run_recipe, run_stage, stage_folders
from trainer.pipeline.stage import Recipe, Stage, StageFailed
from trainer.stages.curriculum import CurriculumStage
from trainer.stages.data import DataStage
from trainer.stages.extend import ExtendStage
from trainer.stages.filter import FilterStage
from trainer.stages.integrate import IntegrateStage
from trainer.stages.pretrain import PretrainStage
from trainer.stages.sft import SftStage
from trainer.stages.synthetic import SyntheticStage
from trainer.stages.teacher import TeacherStage
from trainer.teacher.directory import identity

ARCH = ArchConfig(32, 300, (LayerConfig(GatedShortConv(3), SwiGLU(48)), LayerConfig(Gqa(2, 1, 16), SwiGLU(48))))
TASKS = ("extraction", "tool_calls")


def loop(length: int, steps: int = 4, **changes: Any) -> LoopConfig:
    given = {"batch": 2, "micro_batch": 2, "warmup": 1, "kd_weight": 0.0, "save_every": 2, **changes}
    return LoopConfig(steps=steps, length=length, **given)


def recipe(text: Path, teacher: str) -> Recipe:
    teacher_id = identity(teacher)
    stages: tuple[Stage, ...] = (
        DataStage(teacher, teacher_id, (f"directory:{text}",), 300, max_tokens=6_000, held_out_share=0.2),
        TeacherStage(teacher, teacher_id, k=8, max_tokens=500, window=64, shard_tokens=256),
        PretrainStage(ARCH.to_dict(), loop=loop(32, kd_weight=0.5)),
        ExtendStage(loop=loop(64), original_length=64),
        ExtendStage(start="extend", loop=loop(128), yarn_factor=4.0, original_length=64, label="stretch"),
        SyntheticStage(teacher, teacher_id, (("extraction", 12), ("tool_calls", 12))),
        FilterStage(teacher, teacher_id, TASKS, evaluation_count=4),
        SftStage(start="stretch", loop=loop(512, in_order=True)),
        CurriculumStage(("stretch", "sft")),
        *(SftStage(start="sft", tasks=(task,), curriculum="curriculum", loop=loop(512, in_order=True), label=task)
          for task in TASKS),
        IntegrateStage("sft", TASKS, TASKS, count=4, candidates=("linear", "ties density=0.5"), label="merge"),
    )  # fmt: skip
    return Recipe("all", stages)


@pytest.fixture(scope="module")
def root(small_text: Path, small_teacher: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tuning")
    run_recipe(recipe(small_text, small_teacher), root, "first")
    return root


@pytest.fixture(scope="module")
def folders(root: Path, small_text: Path, small_teacher: str) -> dict[str, Path]:
    return stage_folders(recipe(small_text, small_teacher), root)


def test_stretching_changes_the_architecture_and_no_shape(folders: dict[str, Path]) -> None:
    extended, stretched = (HilnasForCausalLM.from_pretrained(folders[n] / "model") for n in ("extend", "stretch"))
    assert extended.config.to_arch() == ARCH
    assert stretched.config.to_arch().yarn == Yarn(4.0, 64)
    shapes = [{name: value.shape for name, value in m.state_dict().items()} for m in (extended, stretched)]
    assert shapes[0] == shapes[1]
    assert finished(folders["stretch"])["metrics"]["context"] == 256  # type: ignore[index]


def test_a_part_of_the_stream_is_asked_about(folders: dict[str, Path]) -> None:
    metrics = finished(folders["teacher"])["metrics"]  # type: ignore[index]
    assert metrics["num_tokens"] == 500
    assert finished(folders["pretrain"])["metrics"]["tokens"] == 4 * 2 * 32  # type: ignore[index]


def test_filters_report_and_nothing_of_the_evaluation_is_left(folders: dict[str, Path]) -> None:
    report = json.loads((folders["sft_data"] / "report.json").read_text())
    assert [entry["filter"] for entry in report][0] == "malformed" and len(report) == 8
    kept = read_examples(folders["sft_data"] / "examples.jsonl")
    assert len(kept) == report[-1]["seen"] - report[-1]["dropped"]
    assert {example.task for example in kept} == set(TASKS)


def test_specialists_learn_their_own_tasks(folders: dict[str, Path]) -> None:
    kept = read_examples(folders["sft_data"] / "examples.jsonl")
    for task in TASKS:
        metrics = finished(folders[task])["metrics"]  # type: ignore[index]
        assert metrics["examples"] == sum(example.task == task for example in kept)
        assert 0 < metrics["answer_share"] < 1
    ease = np.load(folders["curriculum"] / "ease.npy")
    assert ease.shape == (len(kept), 2) and (ease[:, 1] < 0).all()


def test_the_merge_is_the_best_of_what_was_tried(folders: dict[str, Path]) -> None:
    metrics = finished(folders["merge"])["metrics"]  # type: ignore[index]
    assert set(metrics["scores"]) == {"sft", *TASKS, "linear", "ties density=0.5"}
    assert metrics["score"] == max(metrics["scores"].values()) == metrics["scores"][metrics["chosen"]]
    HilnasForCausalLM.from_pretrained(folders["merge"] / "model")
    assert not (folders["merge"] / "candidates").exists()


def test_the_same_recipe_finds_all_of_it(root: Path, folders: dict[str, Path], small_text, small_teacher) -> None:
    before = {name: (folder / "done.json").stat().st_mtime_ns for name, folder in folders.items()}
    run_recipe(recipe(small_text, small_teacher), root, "second")
    assert {name: (folder / "done.json").stat().st_mtime_ns for name, folder in folders.items()} == before


@pytest.mark.parametrize(
    ("stage", "sentence"),
    [
        (SftStage(start="stretch", tasks=("juggling",)), "no example is of the tasks juggling; there are extraction"),
        (SftStage(start="stretch", loop=loop(16, in_order=True)), "no example fits a row of 16 tokens"),
    ],
    ids=["task", "rows"],
)
def test_what_cannot_work_is_said(folders: dict[str, Path], tmp_path: Path, stage: Stage, sentence: str) -> None:
    with pytest.raises((StageFailed, InvalidConfig), match=sentence):
        run_stage(stage, tmp_path / "stages" / "x", {name: folders[name] for name in stage.inputs})
