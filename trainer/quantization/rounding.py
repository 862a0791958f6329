"""Fake quantization in the formulas of the exporter, with gradients that pass straight through.

torchao's QAT modules give the same integers for linears, but know neither the program's scales in bfloat16, nor the
look-up rows of nas.export.modules, nor stochastic rounding. Shapes: O outputs, I inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from foundation.errors import InvalidConfig
from search_space.cost import GROUP_SIZE

Rounding = Literal["nearest", "stochastic"]
ROUNDINGS: tuple[str, ...] = get_args(Rounding)
LOWEST, HIGHEST = -8, 7  # int4
SMALLEST = torch.finfo(torch.float32).smallest_normal


@dataclass(frozen=True)
class GroupFormat:
    """Symmetric int4 in groups of 32 along the last axis: the scale is the largest magnitude over ``levels``.

    ``reciprocal`` multiplies by 1 / scale where the other divides: the two differ in the last bit, and so at ties.
    ``stored`` is what the program keeps of a scale that the integers were found with.
    """

    levels: float
    least_scale: float
    reciprocal: bool
    stored: torch.dtype


# torchao's Int8DynamicActivationIntxWeightConfig, with scales as XNNPACK keeps them
LINEAR = GroupFormat(7.5, SMALLEST, reciprocal=True, stored=torch.bfloat16)
ROWS = GroupFormat(7.0, 1e-12, reciprocal=False, stored=torch.float32)  # pack_rows_4bit


def fake_quantized_weight(weight_OI: Tensor, form: GroupFormat, noise_OI: Tensor | None = None) -> Tensor:
    """The values that the program multiplies with, in float32.

    ``noise_OI``, uniform in [0, 1), rounds stochastically: up with the probability of the fraction, so that the mean is
    the weight itself wherever int4 does not end. The gradient passes unchanged, also where the largest positive
    weights are cut: their scale follows them, and without a gradient they would never come back.
    """
    quantized: Tensor = _Groups.apply(weight_OI, form, noise_OI)  # type: ignore[no-untyped-call]
    return quantized


def fake_quantized_tokens(x: Tensor) -> Tensor:
    """Asymmetric int8 per token (last axis), as dynamically quantized linears read it, in float32."""
    quantized: Tensor = _Tokens.apply(x)  # type: ignore[no-untyped-call]
    return quantized


def check_width(name: str, width: int) -> None:
    if width % GROUP_SIZE:
        raise InvalidConfig(f"{name} reads {width} values; 8da4w takes multiples of {GROUP_SIZE}")


class _Groups(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight_OI: Tensor, form: GroupFormat, noise_OI: Tensor | None) -> Tensor:
        groups = weight_OI.detach().float().unflatten(-1, (-1, GROUP_SIZE))
        scale = (groups.abs().amax(-1, keepdim=True) / form.levels).clamp(min=form.least_scale)
        stored = scale.to(form.stored).float()
        if noise_OI is None:
            steps = (groups * (1.0 / scale) if form.reciprocal else groups / scale).round_()
        else:
            steps = (groups / stored).add_(noise_OI.view_as(groups)).floor_()
        return steps.clamp_(LOWEST, HIGHEST).mul_(stored).flatten(-2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return grad, None, None


class _Tokens(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.dtype = x.dtype
        x = x.detach().float()
        low, high = x.amin(-1, keepdim=True).clamp(max=0), x.amax(-1, keepdim=True).clamp(min=0)
        scale = ((high - low) / 255).clamp(min=SMALLEST)
        zero = (-128 - (low / scale).round_()).clamp_(-128, 127)
        return (x * (1.0 / scale)).round_().add_(zero).clamp_(-128, 127).sub_(zero).mul_(scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return grad.to(ctx.dtype)
