"""Recipes: functions that return a whole chain of stages as one frozen value. Constants that LFM2's authors did not
publish are ours, and each recipe's notes say which."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig
from trainer.pipeline.stage import Recipe
from trainer.recipes import lfm2_5_350m, small
from trainer.recipes.config import RecipeConfig, chain_of
from trainer.recipes.full import full
from trainer.recipes.tiny import tiny, tiny_student
from trainer.teacher.model import SMOLLM2

__all__ = ["CONFIGS", "RECIPES", "architecture_of", "planned", "recipe_named", "tiny", "tiny_student"]

# architecture (None: the recipe's own), teacher, processes, scale of tokens and steps
RECIPES: dict[str, Callable[[ArchConfig | None, str, int, float], Recipe]] = {
    "tiny": tiny, "full": full, "small": small.small, "lfm2_5_350m": lfm2_5_350m.lfm2_5_350m,
}  # fmt: skip
CONFIGS: dict[str, RecipeConfig] = {config.name: config for config in (small.CONFIG, lfm2_5_350m.CONFIG)}


def recipe_named(name: str, arch: ArchConfig | None, teacher: str, processes: int, scale: float = 1.0) -> Recipe:
    if name not in RECIPES:
        raise InvalidConfig(f"unknown recipe {name!r}; known recipes: {', '.join(RECIPES)}")
    return RECIPES[name](arch, teacher, processes, scale)


def planned(name: str, arch: ArchConfig | None, scale: float = 1.0) -> Recipe:
    """The same stages with a teacher that need not be there: for plans."""
    if name in CONFIGS:
        return chain_of(CONFIGS[name], arch, "the teacher", "any", 1, scale)
    return recipe_named(name, arch, SMOLLM2, 1, scale)


def architecture_of(text: str | None) -> ArchConfig | None:
    """An architecture file, a Hugging Face directory of ours, or a preset."""
    if text is None:
        return None
    from search_space.presets import architecture

    config = Path(text) / "config.json"
    if not config.exists():
        return architecture(text)
    try:
        plain = json.loads(config.read_text())
        return ArchConfig.from_dict(plain["arch"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        kind = plain.get("model_type") if isinstance(error, KeyError) and isinstance(plain, dict) else None
        what = f"holds a model of type {kind!r}, not one of hilnas" if kind else f"cannot be read ({error})"
        raise InvalidConfig(
            f"--arch {text}: its config.json {what}; give a preset, an architecture file or a model of hilnas"
        ) from error
