"""What spoils a training: text, the teacher's word, weights, the disk, a teacher that does not fit. One sentence, and
the next start goes on to the numbers of a run that nothing happened to."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from foundation.errors import HilnasError
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from trainer.data.token_dir import save_tokenizer
from trainer.engine import checkpoint
from trainer.engine.config import LoopConfig
from trainer.pipeline.chain import finished, run_recipe, stage_folders
from trainer.pipeline.records import Records
from trainer.pipeline.stage import Recipe, StageFailed
from trainer.stages.data import DataStage
from trainer.stages.extend import ExtendStage
from trainer.stages.pretrain import PretrainStage
from trainer.stages.teacher import TeacherStage
from trainer.teacher.directory import identity
from trainer.teacher.model import MappedTeacher

ARCH = ArchConfig(64, 300, (LayerConfig(GatedShortConv(3), SwiGLU(96)), LayerConfig(Gqa(2, 1, 32), SwiGLU(96))))
LOOP = LoopConfig(steps=6, batch=2, micro_batch=2, length=32, warmup=2, save_every=2)


def recipe(text: Path, teacher: str, **loop: Any) -> Recipe:
    teacher_id = identity(teacher)
    return Recipe("faults", (
        DataStage(teacher, teacher_id, (f"directory:{text}",), 300, max_tokens=6_000, held_out_share=0.2),
        TeacherStage(teacher, teacher_id, k=8, max_tokens=2_000, window=64, shard_tokens=512),
        PretrainStage(ARCH.to_dict(), loop=replace(LOOP, **loop)),
        ExtendStage(loop=replace(LOOP, length=64, kd_weight=0.0), original_length=64),
    ))  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(small_text: Path, small_teacher: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("undisturbed")
    run_recipe(recipe(small_text, small_teacher), root, "run")
    return root


@pytest.fixture
def root(undisturbed: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to spoil."""
    shutil.copytree(undisturbed, tmp_path / "root")
    return tmp_path / "root"


def weights(root: Path, name: str, made: Recipe) -> dict[str, torch.Tensor]:
    return load_file(stage_folders(made, root)[name] / "model" / "model.safetensors")


def same_weights(a: Path, b: Path, made: Recipe) -> bool:
    pairs = ((weights(a, name, made), weights(b, name, made)) for name in ("pretrain", "extend"))
    return all(torch.equal(ours[name], theirs[name]) for ours, theirs in pairs for name in ours)


def flip(path: Path, at: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_a_changed_shard_is_asked_for_again_alone(root, small_text, small_teacher, monkeypatch) -> None:
    made = recipe(small_text, small_teacher)
    folders = stage_folders(made, root)
    shard, asked = folders["teacher"] / "cache" / "shard-00001.bin", []
    before, done = shard.read_bytes(), {n: (f / "done.json").stat().st_mtime_ns for n, f in folders.items()}
    answer = MappedTeacher.__call__
    monkeypatch.setattr(MappedTeacher, "__call__", lambda self, a, b: asked.append((a, b)) or answer(self, a, b))
    flip(shard)
    run_recipe(made, root, "run")
    assert asked == [(512, 1024)] and shard.read_bytes() == before
    again = [name for name, folder in folders.items() if (folder / "done.json").stat().st_mtime_ns != done[name]]
    assert again == ["teacher"]


def test_a_shard_cut_in_the_middle_of_pretraining_stops_it_with_its_name(root, small_text, small_teacher) -> None:
    made = recipe(small_text, small_teacher, seed=4)
    shard = stage_folders(made, root)["teacher"] / "cache" / "shard-00000.bin"
    pretraining, folders = made.stages[2], stage_folders(made, root)
    shard.write_bytes(shard.read_bytes()[:-100])
    from trainer.pipeline.chain import run_stage

    inputs = {name: folders[name] for name in pretraining.inputs}
    with pytest.raises(StageFailed, match="shard-00000.bin of the teacher cache has .* bytes instead of .*goes on"):
        run_stage(pretraining, folders["pretrain"], inputs)
    run_recipe(made, root, "other seed")
    assert finished(folders["pretrain"]) is not None


@pytest.mark.parametrize("name", ["train.bin", "held_out.teacher.bin"])
def test_a_changed_stream_is_made_again_and_nothing_after_it(root, small_text, small_teacher, name) -> None:
    made = recipe(small_text, small_teacher)
    folder = stage_folders(made, root)["data"]
    stream = folder / name
    before, trained = stream.read_bytes(), (stage_folders(made, root)["pretrain"] / "done.json").stat().st_mtime_ns
    flip(stream, 40)
    run_recipe(made, root, "run")
    assert stream.read_bytes() == before
    assert (stage_folders(made, root)["pretrain"] / "done.json").stat().st_mtime_ns == trained
    stream.unlink()
    run_recipe(made, root, "run")
    assert stream.read_bytes() == before


def test_a_rate_that_explodes_stops_and_a_lower_one_goes_on_from_the_same_text(root, small_text, small_teacher) -> None:
    made = recipe(small_text, small_teacher, learning_rate=1e30, clip=1e9, save_every=1)
    sentence = r"stage pretrain stopped: the loss became \S+ \(gradient norm \S+\) at step \d+; a lower learning rate"
    with pytest.raises(StageFailed, match=sentence):
        run_recipe(made, root, "explodes")
    folder = stage_folders(made, root)["pretrain"]
    (step, *_) = reversed(checkpoint.steps(folder / "checkpoints"))
    assert step == len(Records(folder / "curve.jsonl").read()) >= 1 and finished(folder) is None
    before = (stage_folders(made, root)["teacher"] / "done.json").stat().st_mtime_ns
    run_recipe(recipe(small_text, small_teacher, learning_rate=1e-3), root, "lower")
    assert (stage_folders(made, root)["teacher"] / "done.json").stat().st_mtime_ns == before


def test_weights_that_are_no_numbers_are_said_before_a_step_is_taken(root, small_text, small_teacher) -> None:
    made = recipe(small_text, small_teacher)
    folders = stage_folders(made, root)
    path = folders["pretrain"] / "model" / "model.safetensors"
    good = path.read_bytes()
    poisoned = load_file(path)
    poisoned["model.norm.weight" if "model.norm.weight" in poisoned else sorted(poisoned)[-1]][0] = float("nan")
    save_file(poisoned, path, {"format": "pt"})
    shutil.rmtree(folders["extend"])
    with pytest.raises(StageFailed, match="stage extend stopped: .* at step 0; the weights that it begins with are"):
        run_recipe(made, root, "run")
    assert not Records(folders["extend"] / "curve.jsonl").read()
    path.write_bytes(good)
    run_recipe(made, root, "run")
    assert finished(folders["extend"]) is not None


def test_a_line_that_a_kill_tore_spoils_no_other(tmp_path: Path) -> None:
    records = Records(tmp_path / "curve.jsonl")
    for torn in ("x", '{"step": 1', "7"):
        records.add(step=0)
        with open(records.path, "a") as file:
            file.write(torn)
        records.add(step=2)
    assert [row["step"] for row in records.read()] == [0, 2] * 3


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 20 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("only root may mount a small tmpfs")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_is_full_at_one_place_after_another(disk, undisturbed, small_text, small_teacher) -> None:
    made, stopped = recipe(small_text, small_teacher), []
    for size in range(20, 8000, 80):
        subprocess.run(["mount", "-o", f"remount,size={size}k", disk], check=True)
        try:
            run_recipe(made, disk, "run")
            break
        except HilnasError as error:
            stopped.append(str(error))
            assert f"the disk of {disk}" in str(error) and "is full; " in str(error)
    assert {text.split()[1] for text in stopped} >= {"data", "teacher", "pretrain", "extend"}
    assert same_weights(disk, undisturbed, made)
    curves = [stage_folders(made, root)["pretrain"] / "curve.jsonl" for root in (disk, undisturbed)]
    ours, theirs = ([row["loss"] for row in Records(path).read()] for path in curves)
    assert ours == theirs


def test_a_root_that_cannot_be_made_is_a_sentence(tmp_path, small_text, small_teacher) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HilnasError, match="Not a directory: .*file/root"):
        run_recipe(recipe(small_text, small_teacher), tmp_path / "file" / "root", "run")


def test_a_file_that_may_not_grow_is_a_sentence_too(tmp_path, undisturbed, small_text, small_teacher) -> None:
    made, limits = recipe(small_text, small_teacher), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))
        with pytest.raises(StageFailed, match="stage pretrain stopped: .*goes on from what is saved"):
            run_recipe(made, tmp_path, "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    run_recipe(made, tmp_path, "run")
    assert same_weights(tmp_path, undisturbed, made)


def test_a_teacher_whose_logits_do_not_reach_its_tokens(tmp_path, small_text, small_teacher) -> None:
    from transformers import LlamaForCausalLM

    folder = tmp_path / "teacher"
    shutil.copytree(small_teacher, folder)
    model = LlamaForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(310)
    model.save_pretrained(folder)
    with pytest.raises(StageFailed, match="stage teacher stopped: the teacher has 310 logits and its tokenizer 320"):
        run_recipe(recipe(small_text, str(folder)), tmp_path / "root", "run")


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (models.WordLevel({"<|endoftext|>": 0, "the": 1}, unk_token="the"), "is WordLevel, not byte-level BPE"),
        (models.Unigram([("<|endoftext|>", 0.0), ("a", -1.0)], unk_id=0), "is Unigram, not byte-level BPE"),
        (models.BPE({"<|endoftext|>": 0, "a": 1}, []), "is BPE, not byte-level BPE"),
        (None, "tokenizer.json is not a tokenizer"),
    ],
    ids=["words", "unigram", "plain BPE", "torn"],
)
def test_a_teacher_with_another_kind_of_vocabulary(tmp_path, small_text, small_teacher, model, sentence) -> None:
    folder = tmp_path / "teacher"
    shutil.copytree(small_teacher, folder)
    if model is None:
        (folder / "tokenizer.json").write_text("{")
    else:
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.add_special_tokens(["<|endoftext|>"])
        save_tokenizer(tokenizer, folder)
    with pytest.raises(StageFailed, match=f"stage data stopped: .*{sentence}"):
        run_recipe(recipe(small_text, str(folder)), tmp_path / "root", "run")
    failed = [row for row in Records(tmp_path / "root" / "runs" / "run" / "progress.jsonl").read() if "event" in row]
    assert sentence in json.dumps(failed)
