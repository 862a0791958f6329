"""The operator table: one folder per mixer, one line here."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from foundation.errors import InvalidConfig
from search_space.mixers.base import Linear, MixerConfig, StateSpec
from search_space.mixers.gated_short_conv.config import GatedShortConv
from search_space.mixers.gqa.config import Gqa
from search_space.mixers.skip.config import Skip
from search_space.mixers.sliding_window.config import SlidingWindow

MIXERS: dict[str, type[MixerConfig]] = {cls.kind: cls for cls in (GatedShortConv, Gqa, SlidingWindow, Skip)}


def mixer_from_dict(data: dict[str, Any]) -> MixerConfig:
    """Inverse of ``MixerConfig.to_dict``; unknown kinds and fields are answered with the known ones."""
    kind = data.get("kind")
    cls = MIXERS.get(str(kind))
    if cls is None:
        raise InvalidConfig(f"unknown operator {kind!r}; known operators: {', '.join(MIXERS)}")
    options = {key: value for key, value in data.items() if key != "kind"}
    known = [f.name for f in fields(cls)]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise InvalidConfig(f"{kind}: unknown option {unknown[0]!r}; known options: {', '.join(known) or 'none'}")
    return cls(**options)


__all__ = [
    "MIXERS", "GatedShortConv", "Gqa", "Linear", "MixerConfig", "Skip", "SlidingWindow", "StateSpec", "mixer_from_dict",
]  # fmt: skip
