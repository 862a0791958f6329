"""XNNPACK: linears quantized dynamically and delegated, our fused operators for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from nas.export.backends.base import Backend
from search_space.cost import GROUP_SIZE

if TYPE_CHECKING:
    from torch import nn


class Xnnpack(Backend):
    """8-bit dynamic activations with 4-bit (groups of 32) or 8-bit weights, or float32.

    Float runs differ only in summation order. 8-bit activations round differently at ties, and a flipped rounding
    propagates through all later layers.
    """

    name: ClassVar[str] = "xnnpack"
    title: ClassVar[str] = "XNNPACK (CPU)"
    min_sqnr_db: ClassVar[Mapping[str, float]] = {"8da4w": 18.0, "8da8w": 18.0, "fp32": 60.0}
    delegates: ClassVar[tuple[str, ...]] = ("XnnpackBackend",)

    def quantize(self, module: nn.Module, quantization: str) -> nn.Module:
        import torch
        from torchao.quantization import Int8DynamicActivationIntxWeightConfig, quantize_
        from torchao.quantization.granularity import PerAxis, PerGroup

        self.check(quantization)
        if quantization == "fp32":
            return module
        if quantization == "8da4w":
            config = Int8DynamicActivationIntxWeightConfig(
                weight_dtype=torch.int4,  # type: ignore[attr-defined]
                weight_granularity=PerGroup(GROUP_SIZE),
            )
        else:
            config = Int8DynamicActivationIntxWeightConfig(weight_dtype=torch.int8, weight_granularity=PerAxis(0))
        quantize_(module, config)
        return module

    def reference(self, quantized: nn.Module) -> nn.Module:
        from nas.export.backends.xnnpack_linear import unpacked

        return unpacked(quantized)

    def partitioners(self) -> list[Any]:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import (
            XnnpackDynamicallyQuantizedPartitioner,
            XnnpackPartitioner,
        )

        return [XnnpackDynamicallyQuantizedPartitioner(), XnnpackPartitioner()]
