"""Mixers that must not pass the gates of quality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from search_space.mixers.base import MixerConfig
from search_space.modeling.layers import MixerModule


@dataclass(frozen=True)
class MeanOverTime(MixerConfig):
    """Subtracts the mean over all tokens, later ones included."""

    kind: ClassVar[str] = "mean_over_time"
    title: ClassVar[str] = "mean over time"

    @classmethod
    def module_class(cls) -> type[nn.Module]:
        return MeanOverTimeModule


class MeanOverTimeModule(MixerModule):
    def __init__(self, config: MeanOverTime, d_model: int, *_: Any) -> None:
        super().__init__()

    def forward(self, x_BTD: Tensor, *_: Any) -> Tensor:
        return x_BTD - x_BTD.mean(1, keepdim=True)


@dataclass(frozen=True)
class ShutGate(MeanOverTime):
    """Reads ahead through a gate that starts shut: at its start no output shows it."""

    kind: ClassVar[str] = "shut_gate"

    @classmethod
    def module_class(cls) -> type[nn.Module]:
        return ShutGateModule


class ShutGateModule(MixerModule):
    def __init__(self, config: ShutGate, d_model: int, *_: Any) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(d_model))

    def init_own_parameters(self) -> None:
        nn.init.zeros_(self.gate)

    def forward(self, x_BTD: Tensor, *_: Any) -> Tensor:
        return self.gate * x_BTD.flip(1).cumsum(1).flip(1)
