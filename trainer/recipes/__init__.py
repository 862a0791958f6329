"""Recipes: functions that return a whole chain of stages as one frozen value. Constants that LFM2's authors did not
publish are ours, and each recipe's notes say which."""

from __future__ import annotations

from search_space.arch import ArchConfig
from trainer.pipeline.stage import Recipe
from trainer.recipes.heal import HealOptions, heal
from trainer.recipes.registry import RECIPES, RecipeEntry, RecipeOptions, options_from_text, planned, recipe_named
from trainer.recipes.smoke import SHORT, SMOKE, smoke

__all__ = ["RECIPES", "RecipeEntry", "RecipeOptions", "options_from_text", "planned", "recipe_named"]


def _tiny(arch: ArchConfig | None, options: RecipeOptions) -> Recipe:
    from trainer.recipes.tiny import tiny

    return tiny(arch, options)


def _full(arch: ArchConfig | None, options: RecipeOptions) -> Recipe:
    from trainer.recipes.full import full

    return full(arch, options)


def _small(arch: ArchConfig | None, options: RecipeOptions) -> Recipe:
    from trainer.recipes.small import small

    return small(arch, options)


def _lfm2_5_350m(arch: ArchConfig | None, options: RecipeOptions) -> Recipe:
    from trainer.recipes.lfm2_5_350m import lfm2_5_350m

    return lfm2_5_350m(arch, options)


RECIPES.add("smoke", RecipeEntry("a minute on shipped text: does training work at all?", smoke, SMOKE))
RECIPES.add("short", RecipeEntry("ten times smoke", smoke, SHORT))
RECIPES.add("heal", RecipeEntry("a winner around a parent goes on from its own weights", heal, HealOptions()))
RECIPES.add("tiny", RecipeEntry("two CPU cores, minutes: text to a merged model that was measured", _tiny))
RECIPES.add("full", RecipeEntry("tiny, then preference, tools, RL and QAT; three quarters of an hour", _full))
RECIPES.add("small", RecipeEntry("one GPU, hours: 50 M parameters, contexts to 32k", _small))
RECIPES.add("lfm2_5_350m", RecipeEntry("many GPUs: LFM2-350M's architecture, contexts to 128k", _lfm2_5_350m))
