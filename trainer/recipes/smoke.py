"""``smoke`` and ``short``: one pretraining on the text that every Python ships, without a teacher."""

from __future__ import annotations

from dataclasses import dataclass

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig
from trainer.pipeline.stage import Recipe

SOURCES = ("python:topics",)
MAX_TOKENS = 10_000_000  # more than the text has
NOTES = ("a check that training works: what it teaches is not worth measuring",)


# what one process can hold and still is a check; beyond are other recipes
BOUNDS: dict[str, tuple[float, float]] = {
    "steps": (1, 100_000), "batch": (1, 1024), "length": (8, 8192), "learning_rate": (1e-8, 1.0),
    "warmup": (0, 100_000), "weight_decay": (0.0, 10.0),
}  # fmt: skip


@dataclass(frozen=True)
class SmokeOptions:
    """``batch`` rows of ``length`` tokens a step."""

    steps: int = 60
    batch: int = 8
    length: int = 128
    learning_rate: float = 2e-3
    warmup: int = 10
    weight_decay: float = 0.1

    def __post_init__(self) -> None:
        for name, (least, most) in BOUNDS.items():
            if not least <= getattr(self, name) <= most:
                raise InvalidConfig(f"option {name} {getattr(self, name)} is not between {least:g} and {most:g}")


SMOKE, SHORT = SmokeOptions(), SmokeOptions(steps=600, batch=16, length=256)


def smoke(arch: ArchConfig | None, options: SmokeOptions = SMOKE) -> Recipe:
    """Raises InvalidConfig without an architecture, or for one whose vocabulary has no room for every byte."""
    from trainer.data.tokenizer import MIN_VOCABULARY
    from trainer.engine.config import LoopConfig
    from trainer.stages.corpus import CorpusStage
    from trainer.stages.pretrain import PretrainStage

    if arch is None:
        raise InvalidConfig("recipe smoke has no architecture of its own; give --arch a preset or a file")
    if arch.vocab_size < MIN_VOCABULARY:
        raise InvalidConfig(
            f"recipe smoke takes a vocabulary of {MIN_VOCABULARY} tokens or more (every byte, and markers); the"
            f" architecture has {arch.vocab_size}"
        )
    loop = LoopConfig(
        steps=options.steps, batch=options.batch, micro_batch=options.batch, length=options.length,
        learning_rate=options.learning_rate, warmup=options.warmup, weight_decay=options.weight_decay,
        schedule="cosine", kd_weight=0.0, save_every=20,
    )  # fmt: skip
    return Recipe("smoke", (
        CorpusStage(SOURCES, arch.vocab_size, MAX_TOKENS, label="data"),
        PretrainStage(arch.to_dict(), loop=loop, teacher=None),
    ), NOTES)  # fmt: skip
