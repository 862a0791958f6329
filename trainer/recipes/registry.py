"""Recipes by name. None of this brings torch: a recipe's own module is imported when it is built."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from foundation.errors import InvalidConfig
from foundation.part_spec import PartSpec, checked_values, typed_options
from foundation.registry import Registry
from search_space.arch import ArchConfig
from trainer.pipeline.stage import Recipe
from trainer.teacher.directory import SMOLLM2, SMOLLM2_TOKENS, identity

MAX_PROCESSES = 1024


@dataclass(frozen=True)
class RecipeOptions:
    """What a person may set of a recipe with a teacher. ``processes`` share every training stage; ``scale`` is of
    tokens, examples and steps: 0.25 is a quarter of the recipe."""

    teacher: str = SMOLLM2
    processes: int = 1
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.processes <= MAX_PROCESSES:
            raise InvalidConfig(f"processes {self.processes} is not between 1 and {MAX_PROCESSES}")

    @property
    def teacher_id(self) -> str:
        """Of the teacher by content. Raises InvalidConfig for one that is not there."""
        return identity(self.teacher)

    def check_scale(self, least: float, most: float) -> None:
        if not least <= self.scale <= most:
            raise InvalidConfig(f"scale {self.scale} is not between {least} and {most}; 1 is the recipe as it is meant")

    def check_tokens(self, recipe: str, wanted: int) -> None:
        """The student's tokens are the first of the teacher's, so the teacher needs as many."""
        there = SMOLLM2_TOKENS if self.teacher == SMOLLM2 else _tokens_of(self.teacher)
        if there is not None and there < wanted:
            raise InvalidConfig(
                f"recipe {recipe} has an embedding and a head of {wanted:,} tokens cut from its teacher's, and"
                f" {self.teacher} has {there:,}; give --teacher a Hugging Face directory with byte-level BPE and more"
                " tokens"
            )


@dataclass(frozen=True)
class WithoutTeacher(RecipeOptions):
    """For plans: the same stages with a teacher that need not be there."""

    teacher: str = "the teacher"

    @property
    def teacher_id(self) -> str:
        return "any"

    def check_tokens(self, recipe: str, wanted: int) -> None:
        """Nothing to check."""


@dataclass(frozen=True)
class RecipeEntry:
    """``build`` takes an architecture (None: the recipe's own) and options of the type of ``defaults``."""

    about: str
    build: Callable[[ArchConfig | None, Any], Recipe]
    defaults: Any = RecipeOptions()


RECIPES: Registry[RecipeEntry] = Registry("recipe")


def recipe_named(name: str, arch: ArchConfig | None = None, options: Mapping[str, Any] | None = None) -> Recipe:
    """Raises InvalidConfig for an unknown recipe or option, or a value that does not fit."""
    entry = RECIPES.get_or_raise(name)
    values = checked_values(options or {}, entry.defaults, f"recipe {name}")
    return entry.build(arch, replace(entry.defaults, **values))


def options_from_text(name: str, words: list[str]) -> dict[str, Any]:
    """``key=value`` words as the options of a recipe. Raises InvalidConfig as ``recipe_named`` does."""
    pairs = dict(word.partition("=")[::2] for word in words)
    return typed_options(PartSpec(name, name, options=pairs), type(RECIPES.get_or_raise(name).defaults), "recipe")


def planned(name: str, arch: ArchConfig | None, scale: float = 1.0) -> Recipe:
    """The recipe with a teacher that need not be there."""
    entry = RECIPES.get_or_raise(name)
    if isinstance(entry.defaults, RecipeOptions):
        return entry.build(arch, WithoutTeacher(scale=scale))
    return recipe_named(name, arch, {"scale": scale} if scale != 1 else {})


def _tokens_of(teacher: str) -> int | None:
    config = Path(teacher) / "config.json"
    return json.loads(config.read_text()).get("vocab_size") if config.exists() else None
