"""Settings of a training loop: everything here changes the result, except ``save_every`` and ``micro_batch``."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from foundation.errors import InvalidConfig
from trainer.data.packing import order


@dataclass(frozen=True)
class LoopConfig:
    """``batch`` rows of ``length`` tokens a step over all processes, ``micro_batch`` of them at once in each.

    ``kd_weight`` 0 is cross-entropy alone; ``in_order`` reads the rows as they lie, for a curriculum.
    LFM2's pretraining constants were never published: the defaults are ours.
    """

    steps: int = 200
    batch: int = 16
    micro_batch: int = 8
    length: int = 256
    learning_rate: float = 2e-3
    schedule: Literal["wsd", "cosine"] = "wsd"
    warmup: int = 20
    decay_share: float = 0.2
    final_share: float = 0.1
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0
    kd_weight: float = 0.5
    temperature: float = 1.0
    autocast: bool = False
    seed: int = 0
    save_every: int = 50
    in_order: bool = False

    def __post_init__(self) -> None:
        if self.schedule not in ("wsd", "cosine"):
            raise InvalidConfig(f"unknown schedule {self.schedule!r}; known: wsd, cosine")
        if min(self.steps, self.batch, self.micro_batch, self.length, self.save_every) < 1:
            raise InvalidConfig("steps, batch, micro_batch, length and save_every must be at least 1")

    def once(self, length: int) -> LoopConfig:
        """One step on one row of ``length``, for a rehearsal."""
        return replace(self, steps=1, batch=1, micro_batch=1, length=length, warmup=1, save_every=1)

    def share(self, step: int) -> float:
        """Of the peak learning rate: linear warm-up, then cosine, or stable with a linear decay at the end (WSD)."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        decay = self.steps - self.warmup if self.schedule == "cosine" else round(self.steps * self.decay_share)
        done = max(0.0, 1 - (self.steps - step) / max(1, decay))
        shape = 0.5 * (1 + math.cos(math.pi * done)) if self.schedule == "cosine" else 1 - done
        return self.final_share + (1 - self.final_share) * shape

    def rows_of(self, step: int, num_rows: int) -> NDArray[np.int64]:
        """Row numbers of a step, a function of these numbers alone."""
        if self.in_order:
            return np.arange(step * self.batch, (step + 1) * self.batch) % num_rows
        return order(num_rows, step * self.batch, self.batch, self.seed)

    def micro_batches(self, rank: int, world: int) -> list[slice]:
        """This process's part of a step's rows, a slice for each forward pass."""
        if self.batch % world:
            raise InvalidConfig(f"{self.batch} rows a step do not spread over {world} processes; give a multiple")
        share = self.batch // world
        first, last = rank * share, (rank + 1) * share
        return [slice(at, min(at + self.micro_batch, last)) for at in range(first, last, self.micro_batch)]
