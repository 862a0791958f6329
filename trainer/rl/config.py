"""Settings of the algorithm, each lever by its name in the literature. LFM2.5 names the levers and no values: clip
bounds are DAPO's (arXiv 2503.14476), the rest are ours and switched off one by one in ``benchmarks.rl``."""

from __future__ import annotations

from dataclasses import dataclass

from foundation.errors import InvalidConfig


@dataclass(frozen=True)
class RlConfig:
    """``clip_low`` and ``clip_high`` bound the ratio to [1 - low, 1 + high]; ``importance_cap`` truncates the ratio
    between the trainer's and the sampler's probabilities; 0 switches it off, as it does ``repetition_penalty``."""

    clip_low: float = 0.2
    clip_high: float = 0.28
    dynamic_filter: bool = True
    refills: int = 2
    mask_overlong: bool = True
    normalize_advantages: bool = False
    importance_cap: float = 2.0
    ngram: int = 8
    repetition_threshold: float = 0.3
    repetition_penalty: float = 0.5
    curriculum: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.clip_low < 1 or self.clip_high <= 0 or self.importance_cap < 0 or self.refills < 0:
            raise InvalidConfig("clip_low lies in (0, 1), clip_high over 0, importance_cap and refills at 0 or more")
