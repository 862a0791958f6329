"""The smallest recipe: shipped text, a tokenizer learned from it, the same engine as every other recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from trainer.data.token_dir import TokenDir
from trainer.data.tokenizer import learn_tokenizer, own_vocabulary
from trainer.engine.model_dir import ModelDir
from trainer.pipeline.chain import run_recipe, stage_folders
from trainer.pipeline.stage import Recipe
from trainer.recipes import recipe_named
from trainer.stages import CorpusStage

ARCH = ArchConfig(32, 700, (LayerConfig(GatedShortConv(3), SwiGLU(64)), LayerConfig(Gqa(2, 1, 16), SwiGLU(64))))


def test_smoke_learns_and_leaves_a_model_with_its_tokenizer(tmp_path: Path) -> None:
    recipe = recipe_named("smoke", ARCH, {"steps": 12, "batch": 4, "length": 64, "learning_rate": 0.01})
    results = run_recipe(recipe, tmp_path, "smoke")
    assert list(results) == ["data", "pretrain"]
    bits = results["pretrain"]["metrics"]["held_out_bits_per_byte"]
    assert bits["after"] < bits["before"]
    model = ModelDir(stage_folders(recipe, tmp_path)["pretrain"])
    assert model.arch() == ARCH
    tokenizer = AutoTokenizer.from_pretrained(model.path)
    assert tokenizer.decode(tokenizer("def double(x): return 2 * x").input_ids) == "def double(x): return 2 * x"
    assert json.loads((tmp_path / "runs/smoke/recipe.json").read_text())["recipe"] == "smoke"


def test_a_learned_vocabulary_counts_the_bytes_of_its_text() -> None:
    texts = ["naïve café, " * 20, "the cat sat on the mat; " * 20]
    tokenizer = learn_tokenizer(texts, 320)
    vocabulary = own_vocabulary(tokenizer)
    for text in texts:
        ids = tokenizer.encode(text).ids
        assert int(vocabulary.num_bytes[ids].sum()) == len(text.encode())
        assert vocabulary.split(vocabulary.teacher_ids[ids]).tolist() == ids
    assert tokenizer.id_to_token(vocabulary.end) == "<|endoftext|>" and vocabulary.num_bytes[vocabulary.end] == 0


def test_the_tokenizer_never_saw_the_held_out_text(tmp_path: Path) -> None:
    folder = tmp_path / "text"
    folder.mkdir()
    for index in range(60):
        word = f"word{chr(97 + index // 26)}{chr(97 + index % 26)}zq"  # letters only: digits are split off
        (folder / f"{index}.txt").write_text(f"{word} " * 40)
    stage = CorpusStage((f"directory:{folder}",), 4000, 1_000_000, held_out_share=0.3, label="data")
    recipe = Recipe("corpus", (stage,))
    run_recipe(recipe, tmp_path, "corpus")
    tokens = TokenDir(stage_folders(recipe, tmp_path)["data"])
    tokenizer = tokens.tokenizer()
    held_out, train = (set(tokenizer.decode(tokens.tokens(split).tolist()).split()) for split in ("held_out", "train"))
    assert held_out and train and not held_out & train
    known = {entry for entry in tokenizer.get_vocab() if entry.lstrip("Ġ").startswith("word") and len(entry) > 8}
    assert known and not any(entry.lstrip("Ġ") in held_out for entry in known)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"steps": 2**63}, "option steps 9223372036854775808 is not between 1 and 100000"),
        ({"steps": 0}, "option steps 0 is not between"),
        ({"batch": 2**40}, "option batch"),
        ({"learning_rate": float("nan")}, "option learning_rate nan"),
        ({"learning_rate": -1.0}, "option learning_rate -1.0"),
        ({"warmup": True}, "option warmup takes a whole number"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidConfig, match=sentence):
        recipe_named("smoke", ARCH, options)


def test_processes_are_bounded() -> None:
    with pytest.raises(InvalidConfig, match="processes 1000000 is not between 1 and 1024"):
        recipe_named("tiny", None, {"processes": 1_000_000})


def test_a_text_with_few_pairs_leaves_rows_of_the_embedding_unused(tmp_path: Path) -> None:
    recipe = recipe_named("smoke", ArchConfig(32, 60_000, ARCH.layers), {"steps": 1, "batch": 1, "length": 32})
    results = run_recipe(recipe, tmp_path, "smoke")
    there = TokenDir(stage_folders(recipe, tmp_path)["data"]).vocabulary().size
    assert there == results["data"]["metrics"]["vocab_size"] < 60_000


def test_a_vocabulary_without_room_for_every_byte_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="a vocabulary of 259 tokens or more .*; the architecture has 256"):
        recipe_named("smoke", ArchConfig(32, 256, ARCH.layers))


def test_smoke_wants_an_architecture() -> None:
    with pytest.raises(InvalidConfig, match="recipe smoke has no architecture of its own; give --arch"):
        recipe_named("smoke")
