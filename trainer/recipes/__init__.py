"""Recipes: functions that return a whole chain of stages as one frozen value. Constants that LFM2's authors did not
publish are ours, and each recipe's notes say which."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from nas.contracts.errors import InvalidConfig
from search_space.arch import ArchConfig
from trainer.pipeline.stage import Recipe
from trainer.recipes.tiny import tiny, tiny_student

__all__ = ["RECIPES", "architecture_of", "recipe_named", "tiny", "tiny_student"]

# architecture (None: the recipe's own), teacher, processes, scale of tokens and steps
RECIPES: dict[str, Callable[[ArchConfig | None, str, int, float], Recipe]] = {"tiny": tiny}


def recipe_named(name: str, arch: ArchConfig | None, teacher: str, processes: int, scale: float = 1.0) -> Recipe:
    if name not in RECIPES:
        raise InvalidConfig(f"unknown recipe {name!r}; known recipes: {', '.join(RECIPES)}")
    return RECIPES[name](arch, teacher, processes, scale)


def architecture_of(text: str | None) -> ArchConfig | None:
    """An architecture file, a Hugging Face directory of ours, or a preset."""
    if text is None:
        return None
    from search_space.presets import architecture

    config = Path(text) / "config.json"
    if config.exists():
        return ArchConfig.from_dict(json.loads(config.read_text())["arch"])
    return architecture(text)
