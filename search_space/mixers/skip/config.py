"""No mixer: the layer is its feed-forward alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from search_space.mixers.base import MixerConfig


@dataclass(frozen=True)
class Skip(MixerConfig):
    kind: ClassVar[str] = "skip"

    @property
    def is_identity(self) -> bool:
        return True
