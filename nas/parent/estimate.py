"""The quality of a candidate around a parent: missing blocks are learned, then it is judged composed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from foundation.errors import HilnasError
from foundation.measurement_lock import MeasurementLock
from nas.parent.alternatives import Alternative
from nas.parent.assemble import assemble, replaced
from nas.parent.distil import DistilSettings, distil
from nas.parent.judge import Reader, judgement
from nas.parent.learn import LearnSettings, LearntBlock, learn_all, weights_of
from nas.parent.retrieval import RetrievalTask, retrieval_task, retrieve
from nas.parent.store import Parent
from nas.quality.gates import BelowFloor
from search_space.arch import ArchConfig
from search_space.modeling.model import HilnasForCausalLM
from search_space.parents import COMPOSED_FROM

RETRIEVAL_ROWS = 8


@dataclass(frozen=True)
class InheritedSettings:
    """Blocks learn on ``calibration_rows`` rows of ``calibration_length`` tokens. Candidates read ``held_out_rows``
    rows of the longest of ``lengths``, and the same text cut to the others. ``distil.steps`` 0: judged as composed."""

    parent: str
    lengths: tuple[int, ...] = (512, 2048)
    held_out_rows: int = 4
    calibration_rows: int = 50
    calibration_length: int = 512
    retrieval: bool = True
    learn: LearnSettings = field(default_factory=LearnSettings)
    distil: DistilSettings = field(default_factory=lambda: DistilSettings(steps=0))


class InheritedJudge:
    """A parent held in memory with its readings; ``blocks`` fills the parent's block store, which is kept."""

    def __init__(self, settings: InheritedSettings) -> None:
        self.settings, self.parent = settings, Parent(settings.parent)
        self.model = self.parent.model()
        self.turn = MeasurementLock().shared
        longest = max(settings.lengths)
        text = self.parent.held_out(longest, settings.held_out_rows)
        self.readers = [
            Reader(self.model, text.shorter(length), max(1, 2048 // length), self.turn)
            for length in sorted(settings.lengths)
        ]
        self._require_learnt(self.parent.text.unigram_bits(text.rows))
        self.task = self._task(longest) if settings.retrieval else None
        self.retrieved = retrieve(self.model, self.task, 4) if self.task else {}

    def _require_learnt(self, unigram_bits: float) -> None:
        """The floor: raises BelowFloor for a parent that reads its own text no better than frequencies of tokens do."""
        longest = self.readers[-1]
        bits = longest.bits_per_byte(longest.own)
        if not bits < unigram_bits:
            raise BelowFloor(
                f"parent {self.parent.name!r} reads its held-out text at {bits:.3f} bits per byte, the frequency of"
                f" tokens alone gives {unigram_bits:.3f}: import a trained model, or with text that it can read"
            )

    def _task(self, longest: int) -> RetrievalTask:
        distances = sorted({max(32, longest // 16), max(32, longest // 4), max(32, longest * 3 // 4)})
        return retrieval_task(np.asarray(self.parent.text.held_out), longest, distances, RETRIEVAL_ROWS)

    def blocks(self, alternatives: list[Alternative]) -> dict[Alternative, LearntBlock]:
        """Those that came with the parent, and the others learnt; other processes may fill the store too."""
        given = self.parent.given(alternatives)
        missing = [one for one in alternatives if one not in given and not one.absent]
        if not missing:
            return given
        chosen = self.settings
        activations = self.parent.activations(self.model, chosen.calibration_length, chosen.calibration_rows)
        return given | learn_all(self.model, missing, activations, self.parent.blocks, chosen.learn, self.turn)

    def composed(self, arch: ArchConfig) -> tuple[HilnasForCausalLM, dict[Alternative, LearntBlock]]:
        """The candidate with the parent's and the learnt weights, after the distillation that the settings ask for."""
        blocks = self.blocks(replaced(arch, self.model.config.to_arch()))
        model = assemble(arch, self.model, weights_of(self.parent.blocks, blocks))
        if self.settings.distil.steps:
            distil(model, self.model, np.asarray(self.parent.text.train), self.settings.distil, self.turn)
        return model, blocks

    def judge(self, arch: ArchConfig) -> dict[str, Any]:
        """``score`` bits per byte at the longest length with ``low`` and ``high``, the interval of the difference from
        the parent on the same text around the parent's own; and everything else that was read."""
        model, blocks = self.composed(arch)
        row, longest = judgement(self.readers, model), self.readers[-1]
        own = longest.bits_per_byte(longest.own)
        _, low, high = row[f"difference@{longest.text.length}"]
        score = row[f"bits_per_byte@{longest.text.length}"]
        details = {
            **row, "parent_bits_per_byte": own, "replaced": len(replaced(arch, self.model.config.to_arch())),
            "block_errors": {f"{one.layer}.{one.part}={one.label}": block.error for one, block in blocks.items()},
        }  # fmt: skip
        if self.task is not None:
            details["retrieval"] = retrieve(model, self.task, 4)
            details["parent_retrieval"] = self.retrieved
        return {"score": score, "low": min(score, own + low), "high": max(score, own + high), "details": details}

    def judge_program(self, logits_of: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        """``score``, ``low`` and ``high`` as ``judge`` gives them, of a program that reads the longest rows."""
        longest = self.readers[-1]
        reading = longest.read_logits(logits_of)
        score, gap, own = longest.bits_per_byte(reading), longest.paired(reading), longest.bits_per_byte(longest.own)
        return {"score": score, "low": min(score, own + gap.low), "high": max(score, own + gap.high)}

    def save(self, arch: ArchConfig, folder: Path) -> None:
        """The judged candidate as a Hugging Face directory with the parent's tokenizer, and whose child it is."""
        model, _ = self.composed(arch)
        model.save_pretrained(folder)
        for file in self.parent.tokenizer_files:
            (folder / file.name).write_bytes(file.read_bytes())
        record = self.parent.record
        origin = {"parent": record.name, "digest": record.digest, "origin": record.origin, "texts": record.texts}
        (folder / COMPOSED_FROM).write_text(json.dumps(origin, indent=1))


@lru_cache(maxsize=1)
def judge_of(settings: InheritedSettings) -> InheritedJudge:
    """Kept between candidates of one process: the parent is read once."""
    return InheritedJudge(settings)


def require_finite(value: float) -> None:
    """Raises HilnasError for a candidate whose blocks give no numbers: it has no bits per byte."""
    if not math.isfinite(value):
        raise HilnasError(f"the composed candidate reads text at {value} bits per byte: its blocks diverged")
