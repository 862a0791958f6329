"""Sliding-window attention: GQA in which a query sees the last ``window`` tokens, itself included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from search_space.mixers.base import require_positive
from search_space.mixers.gqa.config import Gqa


@dataclass(frozen=True)
class SlidingWindow(Gqa):
    kind: ClassVar[str] = "sliding_window"
    window: int = 512

    @property
    def attention_window(self) -> int:
        return self.window

    def validate(self, d_model: int) -> None:
        super().validate(d_model)
        require_positive(self.kind, window=self.window)

    @property
    def label(self) -> str:
        return f"{super().label[:-1]},w{self.window})"
