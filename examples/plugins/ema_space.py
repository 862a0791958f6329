"""A search space of your own, with the mixer of gated_ema.py beside attention."""

from __future__ import annotations

from pathlib import Path

from foundation.plugin_loader import load_file
from search_space.mixers import MIXERS, Gqa
from search_space.space import SPACES, SearchSpace, uniform_space

load_file(str(Path(__file__).with_name("gated_ema.py")))


@SPACES.register("ema_hybrids")
def ema_hybrids(depth: int = 2) -> SearchSpace:
    """Moving averages and attention, small enough for a first look."""
    mixers = (MIXERS["gated_ema"](), Gqa(4, 2, 32))
    return uniform_space("ema_hybrids", 128, 512, depth, mixers, (128, 256))
