"""The mixer table: one folder per mixer, one line in this module."""

from search_space.mixers.base import MIXERS, Linear, MixerConfig, ProxySize, mixer_from_dict
from search_space.mixers.gated_short_conv.config import GatedShortConv
from search_space.mixers.gqa.config import Gqa
from search_space.mixers.skip.config import Skip
from search_space.mixers.sliding_window.config import SlidingWindow

for _config in (GatedShortConv, Gqa, SlidingWindow, Skip):
    MIXERS.add(_config.kind, _config)

__all__ = [
    "MIXERS", "GatedShortConv", "Gqa", "Linear", "MixerConfig", "ProxySize", "Skip", "SlidingWindow",
    "mixer_from_dict",
]  # fmt: skip
