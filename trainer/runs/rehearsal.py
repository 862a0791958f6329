"""A rehearsal: a recipe's whole chain with its true architecture, one step of every stage, on a few short rows of
package text. What would fail after days of GPUs fails here after minutes, and each stage says what memory it took."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from foundation.errors import HilnasError, InvalidConfig
from foundation.files import write_atomically
from search_space import cost
from search_space.arch import ArchConfig
from trainer.data.chat import START, STOP
from trainer.data.mixture import Part
from trainer.data.sources import open_source
from trainer.engine.config import LoopConfig
from trainer.pipeline.chain import finished, run_recipe, stage_folders
from trainer.pipeline.stage import Recipe
from trainer.preference.candidates import Rollouts
from trainer.recipes import CONFIGS, RECIPES
from trainer.recipes.alignment import Alignment
from trainer.recipes.config import SMOLLM2_TOKENS, Phase, RecipeConfig, recipe_of
from trainer.rl.groups import Sampling
from trainer.rollout.episodes import RolloutConfig
from trainer.runs.cost import STATE_BYTES
from trainer.stages.data import save_tokenizer
from trainer.teacher.model import SMOLLM2

TEXT = (Part("python:docs", 0.5), Part("debian:wordnet-base", 0.5))
TASKS = ("reasoning:chain_sum", "extraction", "tool_calls")
ROW = 128  # tokens of pretraining's rows; 2 and 4 times that for longer contexts, 4 times for examples
OVERHEAD_BYTES = 2 << 30  # torch, logits, and a second copy of the weights when a stage ends
END = "<|endoftext|>"
Tell = Callable[[str], None]


def rehearse(
    name: str, arch: ArchConfig | None, root: Path, tell: Tell, teacher: str | None = None,
    text: tuple[Part, ...] = TEXT,
) -> list[dict[str, Any]]:  # fmt: skip
    """A row per stage: name, seconds, peak resident bytes and what it brought. Its stages are removed when all are
    done; ended before, the next call goes on."""
    recipe, arch = _recipe(name, arch, root / "cache", teacher, text)
    check_memory(arch)
    tell(f"{name}: {cost.params(arch):,} parameters, {len(recipe.stages)} stages")
    run, watch = f"rehearsal-{name}", _Watch(recipe, root)
    run_recipe(recipe, root, run, tell=lambda message: watch.hear(message, tell))
    rows = watch.rows()
    write_atomically(root / "runs" / run / "rehearsal.json", json.dumps({"params": cost.params(arch), "stages": rows}))
    for folder in stage_folders(recipe, root).values():
        shutil.rmtree(folder, ignore_errors=True)
    seconds, peak = sum(row["seconds"] for row in rows), max(row["peak_bytes"] for row in rows)
    tell(f"{name}: every stage passed in {seconds:.0f} s, at most {peak / 1e9:.1f} GB of memory")
    return rows


def check_memory(arch: ArchConfig, free_bytes: int | None = None) -> None:
    """Raises InvalidConfig with what it would take."""
    needed = STATE_BYTES * cost.params(arch) + OVERHEAD_BYTES
    free = _available() if free_bytes is None else free_bytes
    if free < needed:
        raise InvalidConfig(
            f"a step of {cost.params(arch):,} parameters takes about {needed / 1e9:.1f} GB (weights, gradients and"
            f" AdamW's moments in float32) and {free / 1e9:.1f} GB are free; rehearse on a machine with more, or with a"
            " smaller --arch"
        )


def _recipe(
    name: str, arch: ArchConfig | None, cache: Path, teacher: str | None, text: tuple[Part, ...]
) -> tuple[Recipe, ArchConfig]:
    if name in RECIPES and name not in CONFIGS:
        raise InvalidConfig(
            f"recipe {name} needs no rehearsal: `hilnas train run --recipe {name} --scale 0.02` is minutes"
        )
    if name not in CONFIGS:
        raise InvalidConfig(f"unknown recipe {name!r}; known recipes: {', '.join(RECIPES)}")
    config = shortened(CONFIGS[name], text)
    student = replace(arch or config.student(), vocab_size=config.vocabulary)
    if teacher is None:
        teacher = SMOLLM2 if config.vocabulary <= SMOLLM2_TOKENS else str(stand_in(cache, config.vocabulary, text))
    return recipe_of(replace(config, student=lambda: student), None, teacher, 1, 1.0), student


def shortened(config: RecipeConfig, text: tuple[Part, ...]) -> RecipeConfig:
    """The same chain with one step of one short row a stage, two examples a task and one of everything evaluated."""

    def once(phase: Phase, length: int) -> Phase:
        return replace(phase, tokens=length, step_tokens=length, length=length, warmup=1, micro_batch=1)

    examples = once(config.sft, 4 * ROW)
    return replace(
        config, parts=text, text_tokens=20_000, teacher_tokens=1_000, held_out_share=0.2, count=2, written=2,
        pretrain=once(config.pretrain, ROW), extend=once(config.extend, 2 * ROW), stretch=once(config.stretch, 4 * ROW),
        sft=examples, specialist=examples, tasks=TASKS, suites=(), evaluation_count=1, evaluation_rows=1,
        contexts=(ROW,), candidates=("linear", "ties density=0.5"), alignment=aligned_once(config.alignment),
    )  # fmt: skip


def aligned_once(given: Alignment) -> Alignment:
    """A question of each kind, one step of everything, groups of two short answers, one round."""

    def once(one: LoopConfig) -> LoopConfig:
        return replace(one, steps=1, batch=1, micro_batch=1, length=4 * ROW, warmup=1, save_every=1)

    return replace(
        given, texts=2, per_task=1, rollouts=Rollouts(sampled=2, max_new_tokens=8), demonstrated=2, repeated=2,
        preference=once(given.preference), cold_start=once(given.cold_start), rl=once(given.rl), qat=once(given.qat),
        sampling=Sampling(1, 2, RolloutConfig(8, max_length=16 * ROW)), rounds=1,
    )  # fmt: skip


def stand_in(cache: Path, vocabulary: int, text: tuple[Part, ...]) -> Path:
    """A teacher of random weights whose tokenizer has as many tokens as the recipe wants, learned from the text: it
    has nothing to say, and everything that asks it works."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = cache / "teachers" / f"stand-in-{vocabulary}"
    if not (folder / "tokenizer.json").exists():
        tokenizer = _tokenizer(cache, vocabulary, text)
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=vocabulary, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, max_position_embeddings=4096, tie_word_embeddings=True,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder)
        save_tokenizer(tokenizer, folder)
    return folder


def _tokenizer(cache: Path, vocabulary: int, text: tuple[Part, ...]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END, START, STOP], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    documents = (text for part in text for text in open_source(part.source, cache).documents())
    tokenizer.train_from_iterator(documents, trainer)
    if tokenizer.get_vocab_size() != vocabulary:
        raise InvalidConfig(
            f"the text gives a vocabulary of {tokenizer.get_vocab_size():,}, {vocabulary:,} are wanted; give more text"
        )
    return tokenizer


class _Watch:
    """Hears the run: takes each stage's peak memory and removes its checkpoints, three times the weights, when done."""

    def __init__(self, recipe: Recipe, root: Path) -> None:
        self._folders, self._peaks = stage_folders(recipe, root), dict.fromkeys(stage_folders(recipe, root), 0)
        self._began = time.monotonic()

    def hear(self, message: str, tell: Tell) -> None:
        name, _, said = message.partition(": ")
        self._peaks[name] = max(self._peaks[name], _peak())
        if said.startswith("done"):
            shutil.rmtree(self._folders[name] / "checkpoints", ignore_errors=True)
            _forget_peak()
            tell(f"{name}: done at {time.monotonic() - self._began:.0f} s, {self._peaks[name] / 1e9:.1f} GB")

    def rows(self) -> list[dict[str, Any]]:
        found = {name: finished(folder) for name, folder in self._folders.items()}
        if missing := [name for name, done in found.items() if done is None]:
            raise HilnasError(f"stage {missing[0]} left nothing")
        return [
            {"stage": name, "seconds": done["seconds"], "peak_bytes": self._peaks[name], "metrics": done["metrics"]}
            for name, done in found.items() if done is not None
        ]  # fmt: skip


def _available() -> int:
    return _kilobytes(Path("/proc/meminfo"), "MemAvailable") * 1024


def _peak() -> int:
    """Resident bytes of this process at most, since the last ``_forget_peak``."""
    return _kilobytes(Path("/proc/self/status"), "VmHWM") * 1024


def _forget_peak() -> None:
    with contextlib.suppress(OSError):  # not everywhere allowed: then peaks only grow
        Path("/proc/self/clear_refs").write_text("5")


def _kilobytes(path: Path, name: str) -> int:
    line = next(line for line in path.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])
