"""A finished stage whose files were deleted or cut is seen, made again, or answered with a sentence that names it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from foundation.errors import HilnasError, InvalidConfig
from tests.e2e.recipe_process import recipe as every_kind
from trainer.pipeline.chain import DONE, finished, run_recipe, stage_folders
from trainer.pipeline.outputs import broken, check_files
from trainer.pipeline.run_folder import state_of
from trainer.pipeline.stage import Recipe, StageFailed
from trainer.recipes.architecture import architecture_of
from trainer.results.records import run_record
from trainer.stages.curriculum import CurriculumStage
from trainer.stages.filter import FilterStage
from trainer.stages.synthetic import SyntheticStage
from trainer.teacher.directory import identity

KINDS = {"data", "teacher", "pretrain", "evaluate", "extend", "sft_data", "sft", "integrate", "preference_data",
         "preference", "rl", "qat", "synthetic", "curriculum"}  # fmt: skip


@pytest.fixture(scope="module")
def made(small_text: Path, small_teacher: str) -> Recipe:
    teacher = (small_teacher, identity(small_teacher))
    more = (
        SyntheticStage(*teacher, (("extraction", 8), ("agent:lookup", 2), ("teacher:answers", 2))),
        FilterStage(*teacher, ("extraction",), evaluation_count=2, least_likelihood=-99.0, label="filtered"),
        CurriculumStage(("first", "sft")),
    )
    base = every_kind(str(small_text), small_teacher)
    return Recipe(base.name, (*base.stages, *more))


@pytest.fixture(scope="module")
def pristine(made: Recipe, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    root = tmp_path_factory.mktemp("pristine")
    run_recipe(made, root, "run")
    return root


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_every_kind_of_stage_is_here(made: Recipe) -> None:
    assert {stage.kind for stage in made.stages} == KINDS


def damaged(path: Path, how: str) -> None:
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("how", ["gone", "cut"])
def test_every_file_that_is_gone_or_cut_is_seen(made: Recipe, pristine: Path, how: str) -> None:
    for name, folder in stage_folders(made, pristine).items():
        done = finished(folder)
        assert done is not None and done["files"], name
        for file in done["files"]:
            path = folder / file
            content = path.read_bytes()
            damaged(path, how)
            if len(content) > 1 or how == "gone":
                assert broken(folder, done["files"]) == [file]
                with pytest.raises(HilnasError, match=str(folder)):
                    check_files(folder, done)
            path.write_bytes(content)
        check_files(folder, done)


@pytest.mark.parametrize("how", ["gone", "cut"])
def test_a_damaged_chain_is_made_again(made: Recipe, pristine: Path, tmp_path: Path, how: str) -> None:
    """All outputs of every stage at once: each stage runs again and leaves what it left before."""
    root = tmp_path / "root"
    shutil.copytree(pristine, root)
    before = {name: finished(folder) for name, folder in stage_folders(made, root).items()}
    for name, folder in stage_folders(made, root).items():
        for file in before[name]["files"]:  # type: ignore[index]
            damaged(folder / file, how)
    run_recipe(made, root, "run")
    for name, folder in stage_folders(made, root).items():
        done = finished(folder)
        assert done is not None
        check_files(folder, done)
        models = [file for file in done["files"] if file.endswith((".safetensors", "pairs.jsonl", "examples.jsonl"))]
        assert all((folder / file).read_bytes() == _folder(made, pristine, name, file) for file in models), name


def _folder(made: Recipe, pristine: Path, name: str, file: str) -> bytes:
    return (stage_folders(made, pristine)[name] / file).read_bytes()


def test_records_that_are_cut_run_again(made: Recipe, pristine: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(pristine, root)
    for folder in stage_folders(made, root).values():
        damaged(folder / DONE, "cut")
        assert finished(folder) is None
    assert {entry["state"] for entry in state_of(root, "run")["stages"].values()} == {"open"}
    run_recipe(made, root, "run")
    assert all(finished(folder) for folder in stage_folders(made, root).values())


def test_stages_of_before_files_were_recorded_are_accepted(made: Recipe, pristine: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(pristine, root)
    folders = stage_folders(made, root)
    for folder in folders.values():
        old = {key: value for key, value in (finished(folder) or {}).items() if key != "files"}
        (folder / DONE).write_text(json.dumps(old))
    assert run_recipe(made, root, "run").keys() == folders.keys()
    damaged(folders["data"] / "vocabulary.npz", "cut")
    (folders["pretrain"] / DONE).unlink()
    with pytest.raises(StageFailed, match=rf"(?s){folders['data']}.*remove that folder"):
        run_recipe(made, root, "run")


def test_who_reads_a_finished_run_is_told(made: Recipe, pristine: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(pristine, root)
    folder = stage_folders(made, root)["qat"]
    damaged(folder / "model" / "config.json", "cut")
    with pytest.raises(HilnasError, match=f"{folder} is not complete: model/config.json"):
        run_record(root, "run").stage("qat")
    damaged(root / "runs" / "run" / "recipe.json", "cut")
    with pytest.raises(InvalidConfig, match="recipe.json cannot be read"):
        state_of(root, "run")


@pytest.mark.parametrize("text", ['{"model_type": "llama", "hidden_size": 64}', "[1]", '{"arch"', ""])
def test_an_architecture_from_somewhere_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    sentence = r"--arch .*(type 'llama', not one of hilnas|cannot be read).*give a preset"
    with pytest.raises(InvalidConfig, match=sentence):
        architecture_of(str(tmp_path))
