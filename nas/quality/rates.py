"""Learning rates by family: convolutions and hybrids want higher ones than attention alone (of 13 layouts in one
ablation, 0.002 against 0.001), so one rate for all would rank families by their taste for it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from search_space.arch import ArchConfig
from search_space.mixers import Gqa

MOSTLY = 0.75


def family(arch: ArchConfig) -> str:
    """``attention`` where at least three quarters of the mixers attend, else ``mixed``."""
    mixers = [layer.mixer for layer in arch.layers if not layer.mixer.identity]
    attending = sum(isinstance(mixer, Gqa) for mixer in mixers)
    return "attention" if mixers and attending >= MOSTLY * len(mixers) else "mixed"


def warmup_cosine(step: int, steps: int, warmup: int, final_share: float) -> float:
    """The share of a learning rate at ``step``: a linear warm-up, then a cosine down to ``final_share``."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return final_share + (1 - final_share) * 0.5 * (1 + math.cos(math.pi * done))


def rates_of(arch: ArchConfig, given: list[float], by_family: Mapping[str, tuple[float, ...]]) -> list[float]:
    """The rates to try: those given, else those of the family."""
    return list(dict.fromkeys(given or by_family[family(arch)]))
