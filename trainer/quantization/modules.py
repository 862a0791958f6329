"""A model whose linears and look-up rows compute as the exported program does. Norms and short convolutions stay float,
and master weights stay float under their names: optimizer, checkpoints and FSDP2 see the model that they know."""

from __future__ import annotations

import copy
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from foundation.errors import InvalidConfig
from search_space.modeling.model import HilnasForCausalLM
from trainer.quantization.rounding import (
    LINEAR,
    ROUNDINGS,
    ROWS,
    GroupFormat,
    check_width,
    fake_quantized_tokens,
    fake_quantized_weight,
)  # fmt: skip


class FakeQuantized(nn.Module):
    """Rounds ``weight``: to nearest in eval mode, in training as asked. What a step draws depends on ``seed``, the step
    and the module alone: not on the process, the micro-batch or what ran before."""

    form: ClassVar[GroupFormat]

    def __init__(self, weight: nn.Parameter, stochastic: bool, key: tuple[int, int]) -> None:
        super().__init__()
        self.weight = weight
        self.stochastic, self.key, self.step = stochastic, key, 0

    def rounded(self) -> Tensor:
        noise = self._noise() if self.stochastic and self.training else None
        return fake_quantized_weight(self.weight, self.form, noise)

    def _noise(self) -> Tensor:
        seed = int(np.random.SeedSequence((*self.key, self.step)).generate_state(1, np.uint64)[0] >> np.uint64(1))
        generator = torch.Generator(self.weight.device).manual_seed(seed)
        return torch.rand(self.weight.shape, generator=generator, device=self.weight.device)


class FakeQuantizedLinear(FakeQuantized):
    form = LINEAR

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(fake_quantized_tokens(x), self.rounded())


class FakeQuantizedEmbedding(FakeQuantized):
    form = ROWS

    def forward(self, ids: Tensor) -> Tensor:
        return nn.functional.embedding(ids, self.rounded())


class QuantizedLinear(nn.Module):
    """Its weight is rounded already; what it reads is rounded at every call."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(fake_quantized_tokens(x), self.weight)


def prepare(model: HilnasForCausalLM, rounding: str, seed: int = 0) -> HilnasForCausalLM:
    """Swaps what the exporter quantizes, in place; parameters stay the same objects, tied ones tied."""
    if rounding not in ROUNDINGS:
        raise InvalidConfig(f"unknown rounding {rounding!r}; known: {', '.join(ROUNDINGS)}")
    for index, (parent, name, child) in enumerate(_targets(model)):
        kind = FakeQuantizedEmbedding if isinstance(child, nn.Embedding) else FakeQuantizedLinear
        assert isinstance(child.weight, nn.Parameter)
        setattr(parent, name, kind(child.weight, rounding == "stochastic", (seed, index)).train(child.training))
    return model


def begin_step(model: nn.Module, step: int) -> None:
    """Before the passes of a training step."""
    for module in model.modules():
        if isinstance(module, FakeQuantized):
            module.step = step


@torch.no_grad()
def quantized(model: HilnasForCausalLM) -> HilnasForCausalLM:
    """A copy in eval mode that says what the exported 8da4w program says; its weights are rounded once."""
    copied = copy.deepcopy(model).eval()
    for parent, name, child in _targets(copied):
        if isinstance(child, nn.Embedding):
            child.weight = nn.Parameter(fake_quantized_weight(child.weight, ROWS), requires_grad=False)
        else:
            setattr(parent, name, QuantizedLinear(fake_quantized_weight(child.weight, LINEAR)).eval())
    return copied


def _targets(model: HilnasForCausalLM) -> list[tuple[nn.Module, str, nn.Linear | nn.Embedding]]:
    """What nas.export.stages.quantize and EmbeddingBlock round: every linear, and the look-up rows."""
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Linear | nn.Embedding)
    ]
    for _, name, child in found:
        check_width(name, child.weight.shape[1])
    return found
