"""Sliding-window attention: GQA in which a query sees the last ``window`` tokens, itself included."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from search_space.mixers.base import ProxySize, require_positive
from search_space.mixers.gqa.config import Gqa

MIN_PROXY_WINDOW = 4
DEBUG_WINDOW = 32


@dataclass(frozen=True)
class SlidingWindow(Gqa):
    kind: ClassVar[str] = "sliding_window"
    title: ClassVar[str] = "sliding window attention"
    letter: ClassVar[str] = "W"
    colour: ClassVar[str] = "#0b9a74"
    settings: ClassVar[str] = f"{Gqa.settings}, window {{window}}"
    traits: ClassVar[tuple[str, ...]] = ()
    window: int = 512

    @property
    def attention_window(self) -> int:
        return self.window

    def validate(self, d_model: int) -> None:
        super().validate(d_model)
        require_positive(self.kind, window=self.window)

    def shrunk(self, size: ProxySize) -> Self:
        """The window covers the same share of the proxy's sequence as of the reference context."""
        window = max(MIN_PROXY_WINDOW, self.window * size.length // size.reference_context)
        return replace(super().shrunk(size), window=window)

    def at_debug_size(self, d_model: int) -> Self:
        return replace(super().at_debug_size(d_model), window=DEBUG_WINDOW)

    @property
    def label(self) -> str:
        return f"{super().label[:-1]},w{self.window})"
