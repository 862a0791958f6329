"""What a backend defines: how weights are quantized, which parts are delegated, how closely programs must match eager
torch, and what they need on the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from contracts.device import DeviceFacts
from contracts.plan import DEFAULT_BACKEND
from foundation.errors import InvalidConfig
from foundation.registry import Registry

if TYPE_CHECKING:
    from torch import nn

__all__ = ["BACKENDS", "DEFAULT_BACKEND", "Backend"]
BACKENDS: Registry[Backend] = Registry("backend")


class Backend:
    """Base of all backends. Torch and the exporter are imported inside the methods that need them, so that backends can
    be listed and checked without either.

    ``min_sqnr_db`` has one entry per supported quantization: the signal-to-noise ratio that programs must reach against
    eager torch. ``delegates`` are the ExecuTorch backends that the device's runner must include.
    """

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    min_sqnr_db: ClassVar[Mapping[str, float]] = {}
    delegates: ClassVar[tuple[str, ...]] = ()
    dynamic_shapes: ClassVar[bool] = True  # one program for any number of tokens up to the largest chunk

    def check(self, quantization: str) -> None:
        """Raises InvalidConfig if this backend does not support the quantization."""
        if quantization not in self.min_sqnr_db:
            raise InvalidConfig(
                f"backend {self.name} does not run {quantization!r} programs; it runs {', '.join(self.min_sqnr_db)}"
            )

    def runs_on(self, facts: DeviceFacts) -> bool:
        """True if the device's runner includes all delegates of this backend."""
        return facts.delegates.issuperset(self.delegates)

    def quantize(self, module: nn.Module, quantization: str) -> nn.Module:
        """Replaces weights in place; returns the module."""
        return module

    def reference(self, quantized: nn.Module) -> nn.Module:
        """The quantized module in eager torch, with the same results as the program."""
        return quantized

    def partitioners(self) -> list[Any]:
        """ExecuTorch partitioners in order; operators that none of them takes run in ExecuTorch's own kernels."""
        return []

    def compile_options(self) -> dict[str, Any]:
        """Options of EdgeCompileConfig."""
        return {"_check_ir_validity": False}
