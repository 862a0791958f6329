"""No mixer: the layer is its feed-forward alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from search_space.mixers.base import MixerConfig


@dataclass(frozen=True)
class Skip(MixerConfig):
    kind: ClassVar[str] = "skip"
    title: ClassVar[str] = "no mixer"
    letter: ClassVar[str] = "·"
    colour: ClassVar[str] = "#9aa4af"
    identity: ClassVar[bool] = True
