"""A rehearsal: a recipe's whole chain with its true architecture, one step of every stage, on a few short rows of
package text. What would fail after days of GPUs fails here after minutes, and each stage says what memory it took."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from foundation.errors import HilnasError, InvalidConfig
from foundation.files import write_atomically
from search_space import cost
from search_space.arch import ArchConfig
from trainer.data.mixture import Part, mixture_of
from trainer.data.sources import open_source
from trainer.data.token_dir import save_tokenizer
from trainer.data.tokenizer import learn_tokenizer
from trainer.pipeline.brief import Brief
from trainer.pipeline.chain import StageEvent, finished, run_recipe, stage_folders
from trainer.pipeline.costing import STATE_BYTES
from trainer.pipeline.stage import Recipe
from trainer.recipes import RECIPES, planned
from trainer.recipes.registry import RecipeOptions
from trainer.runs.cost import student_of
from trainer.stages.data import REHEARSED_TOKENS, DataStage
from trainer.teacher.directory import SMOLLM2, SMOLLM2_TOKENS

TEXT = (Part("python:docs", 0.5), Part("debian:wordnet-base", 0.5))
ROW = 128  # tokens of pretraining's rows
CHARACTERS = REHEARSED_TOKENS * 4.4  # enough for as many tokens
OVERHEAD_BYTES = 2 << 30  # torch, logits, and a second copy of the weights when a stage ends
Echo = Callable[[str], None]


def rehearse(
    name: str, arch: ArchConfig | None, root: Path, echo: Echo, teacher: str | None = None,
    text: tuple[Part, ...] = TEXT,
) -> list[dict[str, Any]]:  # fmt: skip
    """A row per stage: name, seconds, peak resident bytes and metrics. Its stages are removed when all are done; ended
    before, the next call goes on."""
    recipe = rehearsed_recipe(name, arch, root / "cache", teacher, text)
    student = student_of(recipe)
    check_memory(student)
    echo(f"{name}: {cost.params(student):,} parameters, {len(recipe.stages)} stages")
    run, watch = f"rehearsal-{name}", _Watch(recipe, root, echo)
    run_recipe(recipe, root, run, on_event=watch.see)
    rows = watch.rows()
    written = json.dumps({"params": cost.params(student), "stages": rows})
    write_atomically(root / "runs" / run / "rehearsal.json", written)
    for folder in stage_folders(recipe, root).values():
        shutil.rmtree(folder, ignore_errors=True)
    seconds, peak = sum(row["seconds"] for row in rows), max(row["peak_bytes"] for row in rows)
    echo(f"{name}: every stage passed in {seconds:.0f} s, at most {peak / 1e9:.1f} GB of memory")
    return rows


def rehearsed_recipe(
    name: str, arch: ArchConfig | None, cache: Path, teacher: str | None, text: tuple[Part, ...]
) -> Recipe:
    """The recipe with every stage shortened. Without a teacher, SmolLM2 where its vocabulary is large enough, else a
    stand-in."""
    entry, brief = RECIPES.get_or_raise(name), Brief(ROW, mixture_of(text, CHARACTERS))
    if not isinstance(entry.defaults, RecipeOptions):
        return entry.build(arch, entry.defaults).shortened(brief)
    wanted = next(stage.vocab_size for stage in planned(name, arch).stages if isinstance(stage, DataStage))
    if teacher is None:
        teacher = SMOLLM2 if wanted <= SMOLLM2_TOKENS else str(stand_in(cache, wanted, text))
    return entry.build(arch, RecipeOptions(teacher)).shortened(brief)


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


def stand_in(cache: Path, vocabulary: int, text: tuple[Part, ...]) -> Path:
    """A teacher of random weights whose tokenizer has as many tokens as the recipe wants, learned from the text: it
    predicts nothing, and everything that asks it works."""
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


def _tokenizer(cache: Path, vocabulary: int, text: tuple[Part, ...]) -> Any:
    documents = (text for part in text for text in open_source(part.source, cache).documents())
    tokenizer = learn_tokenizer(documents, vocabulary)
    if tokenizer.get_vocab_size() != vocabulary:
        raise InvalidConfig(
            f"the text gives a vocabulary of {tokenizer.get_vocab_size():,}, {vocabulary:,} are wanted; give more text"
        )
    return tokenizer


class _Watch:
    """Takes each stage's peak memory, and removes its checkpoints, three times the weights, when it is done."""

    def __init__(self, recipe: Recipe, root: Path, echo: Echo) -> None:
        self._folders, self._echo = stage_folders(recipe, root), echo
        self._peaks = dict.fromkeys(self._folders, 0)
        self._began = time.monotonic()

    def see(self, event: StageEvent) -> None:
        name = event.stage
        self._peaks[name] = max(self._peaks[name], _peak())
        if event.done:
            shutil.rmtree(self._folders[name] / "checkpoints", ignore_errors=True)
            _forget_peak()
            self._echo(f"{name}: done at {time.monotonic() - self._began:.0f} s, {self._peaks[name] / 1e9:.1f} GB")

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
