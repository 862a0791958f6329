"""``heal``: a winner around a parent goes on from the weights that it was judged with, and learns from the parent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.errors import InvalidConfig
from foundation.files import file_digest
from search_space.arch import ArchConfig
from search_space.parents import COMPOSED_FROM, TEXT, parent_folder, parent_names, parent_record
from trainer.pipeline.stage import Recipe
from trainer.teacher.directory import SMOLLM2, SMOLLM2_PACKAGE, identity

DEFAULT_TEXTS, LEAST_TEXT = ("python:docs",), 200_000
NOTES = ("one pass over little text: it mends what replacing blocks broke, and teaches nothing new",)
BOUNDS: dict[str, tuple[float, float]] = {
    "tokens": (256, 1e10), "length": (32, 131_072), "rows": (1, 4096), "learning_rate": (1e-8, 0.1),
    "top": (1, 1024), "processes": (1, 1024),
}  # fmt: skip


@dataclass(frozen=True)
class HealOptions:
    """``start``: the winner as a Hugging Face directory; a trainer puts that of its trial here. ``teacher``: its
    parent, found by itself where it is imported. At most ``tokens`` are read, once, ``rows`` of ``length`` a step: of
    the text that the parent was imported with, or of ``text``."""

    start: str = ""
    teacher: str = ""
    text: str = ""
    tokens: int = 400_000
    length: int = 2048
    rows: int = 4
    learning_rate: float = 1e-4  # higher ones spoil a winner that is nearly whole (docs/parents.md)
    kd_weight: float = 0.9
    top: int = 64
    processes: int = 1

    def __post_init__(self) -> None:
        for name, (least, most) in BOUNDS.items():
            if not least <= getattr(self, name) <= most:
                raise InvalidConfig(f"option {name} {getattr(self, name)} is not between {least:g} and {most:g}")
        if not 0 < self.kd_weight <= 1:
            raise InvalidConfig(f"option kd_weight {self.kd_weight} is not above 0 and at most 1")
        if self.tokens < self.rows * self.length:
            raise InvalidConfig(
                f"{self.tokens} tokens make no step of {self.rows} rows of {self.length}; give at least"
                f" {self.rows * self.length}, or fewer or shorter rows"
            )


def heal(arch: ArchConfig | None, options: HealOptions) -> Recipe:
    """Raises InvalidConfig without a start, for one of another architecture, or for a parent that is not here."""
    from trainer.engine.config import LoopConfig
    from trainer.evaluation.subject import Settings
    from trainer.stages.evaluate import EvaluateStage
    from trainer.stages.heal import HealStage
    from trainer.stages.model import ModelStage, check_model_folder
    from trainer.stages.own_text import OwnTextStage, ParentTextStage
    from trainer.stages.result import ResultStage
    from trainer.stages.teacher import TeacherStage

    config = _checked_start(arch, options.start, check_model_folder)
    origin = _origin_of(options.start)
    parent = options.teacher or _parent_of(origin)
    parent_id = identity(parent)
    text = _text_of(options, origin, Path(parent))
    steps = _steps(options, text)
    read = steps * options.rows * options.length + 1
    loop = LoopConfig(
        steps=steps, batch=options.rows, micro_batch=1, length=options.length, learning_rate=options.learning_rate,
        schedule="cosine", warmup=max(1, steps // 10), final_share=0.05, weight_decay=0.0, kd_weight=options.kd_weight,
        autocast=True, save_every=max(1, steps // 4), in_order=True,
    )  # fmt: skip
    settings = Settings(8, options.length, (options.length,))
    suites = (f"bits_per_byte length={options.length}", f"loss_by_position length={options.length} count=8")
    return Recipe("heal", (
        ModelStage(options.start, identity(options.start)),
        ParentTextStage(str(text), _sum_of(text), label="data") if text else
        OwnTextStage((options.text,) if options.text else tuple(origin.get("texts") or DEFAULT_TEXTS), _needed(read),
                     label="data"),
        TeacherStage(parent, parent_id, k=min(options.top, config["vocab_size"]), max_tokens=read,
                     window=options.length),
        HealStage(parent, parent_id, loop=loop, processes=options.processes),
        EvaluateStage("model", suites=suites, settings=settings),
        EvaluateStage("heal", suites=suites, settings=settings),
        ResultStage("heal", described=("evaluate_heal",)),
    ), NOTES)  # fmt: skip


def _checked_start(arch: ArchConfig | None, start: str, check: Any) -> dict[str, Any]:
    if not start:
        raise InvalidConfig(
            "recipe heal goes on from a winner's weights: train a trial of a study whose estimator is `inherited`, or"
            " give --set start=DIR with the directory of such a winner"
        )
    config: dict[str, Any] = check(start)
    if arch is not None and ArchConfig.from_dict(config["arch"]) != arch:
        raise InvalidConfig(f"{start} has another architecture than the trial; give the directory of that trial")
    return config


def _origin_of(start: str) -> dict[str, Any]:
    path = Path(start) / COMPOSED_FROM
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _parent_of(origin: dict[str, Any]) -> str:
    """Where the parent lies: imported here, or the package that it came from."""
    name = origin.get("parent")
    if name in parent_names() and parent_record(name)["digest"] == origin["digest"]:
        return str(parent_folder(name))
    if origin.get("origin") == SMOLLM2_PACKAGE:
        return SMOLLM2
    if not name:
        raise InvalidConfig(
            "a winner is healed by its parent, and this one does not say what its parent is; give --teacher a Hugging"
            " Face directory"
        )
    source = str(origin.get("origin", "")).partition(":")[0] or "DIR"
    raise InvalidConfig(
        f"a winner is healed by its parent, and {name!r} is not imported here: `hilnas parent import {name} {source}`"
        " imports it (beside the trainer, under HILNAS_VAR), or give --teacher a Hugging Face directory"
    )


def _text_of(options: HealOptions, origin: dict[str, Any], parent: Path) -> Path | None:
    """The folder of the text that the parent was imported with, unless another is asked for: what candidates were
    judged on is held out there."""
    folder = parent / TEXT
    own = not options.text and bool(origin) and (folder / "train.npy").exists()
    return folder if own else None


def _steps(options: HealOptions, text: Path | None) -> int:
    """Raises InvalidConfig for a text that makes no step."""
    import numpy as np

    step, there = options.rows * options.length, options.tokens
    if text is not None:
        there = min(there, len(np.load(text / "train.npy", mmap_mode="r")) - 1)
    if there < step:
        raise InvalidConfig(
            f"the parent's text has {there:,} tokens and a step takes {step:,}; give fewer or shorter rows, or another"
            " text, e.g. --set text=python:docs"
        )
    return there // step


def _sum_of(folder: Path) -> str:
    return " ".join(file_digest(path) for path in sorted(folder.glob("*.npy")))


def _needed(read: int) -> int:
    """Tokens of text in all: the training part must have ``read``, and some documents be held out."""
    from trainer.data.own_tokens import HELD_OUT_SHARE

    return max(LEAST_TEXT, int(1.25 * read / (1 - HELD_OUT_SHARE)))
