"""A task of your own with its verifier, and a recipe that trains on it and counts what the model then solves.

    hilnas train run --plugin examples/plugins/word_reversal.py --recipe word_reversal
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from string import ascii_lowercase

from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from trainer.pipeline.stage import Recipe
from trainer.recipes import RECIPES, RecipeEntry
from trainer.tasks.base import Example, Split, drawn, seed_of
from trainer.tasks.registry import TASKS

SPLITS: tuple[Split, ...] = ("train", "train", "train", "validation", "test")


def split_of(word: str) -> Split:
    """A word is in one split only, so that no test prompt is ever trained on."""
    return SPLITS[seed_of(word) % len(SPLITS)]


@TASKS.register("word_reversal")
@dataclass(frozen=True)
class WordReversal:
    """Write the letters of a made-up word backwards; each level is a letter longer."""

    variant: str = ""  # what stands behind a colon in the name
    level: int = 0
    name = "word_reversal"

    def examples(self, split: Split, count: int) -> list[Example]:
        draw = drawn(self.name, split, self.level)
        words = iter(lambda: "".join(draw.choices(ascii_lowercase, k=4 + self.level)), None)
        texts = islice((word for word in words if split_of(word) == split), count)
        return [Example(self.name, f"Reverse: {text}", text[::-1], {"text": text}, self.level) for text in texts]

    def score(self, example: Example, answer: str) -> float:
        return float(answer.strip() == example.entry["text"][::-1])


@dataclass(frozen=True)
class Options:
    """Set by ``--set steps=200``."""

    steps: int = 100
    examples: int = 400


def word_reversal(arch: ArchConfig | None, options: Options) -> Recipe:
    from trainer.engine.config import LoopConfig
    from trainer.evaluation.subject import Settings
    from trainer.stages.corpus import CorpusStage
    from trainer.stages.evaluate import EvaluateStage
    from trainer.stages.pretrain import PretrainStage
    from trainer.stages.sft import SftStage
    from trainer.stages.synthetic import SyntheticStage

    layers = tuple(LayerConfig(mixer, SwiGLU(256)) for mixer in (GatedShortConv(3), Gqa(4, 2, 32)))
    student = arch or ArchConfig(128, 1024, layers)
    loop = LoopConfig(steps=options.steps, batch=8, length=128, kd_weight=0.0, schedule="cosine")
    tuning = LoopConfig(steps=options.steps, batch=8, length=128, kd_weight=0.0, in_order=True)
    return Recipe("word_reversal", (
        CorpusStage(("python:topics",), student.vocab_size, 200_000, label="data"),
        PretrainStage(student.to_dict(), loop=loop, teacher=None),
        SyntheticStage("none", "none", (("word_reversal", options.examples),)),
        SftStage(start="pretrain", examples="synthetic", loop=tuning),
        EvaluateStage("sft", suites=("task:word_reversal",), settings=Settings(length=128)),
    ))  # fmt: skip


RECIPES.add("word_reversal", RecipeEntry("train on reversed words, then count them", word_reversal, Options()))
