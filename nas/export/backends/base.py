"""What a backend decides about a program: how weights are quantized, which parts are delegated, how near it must come
to eager torch, and what its programs need on the device."""

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
    """Base of all backends. Torch and the exporter are imported by the methods that need them, so that a backend can
    be named, listed and checked without either.

    ``min_sqnr_db`` has one entry per quantization that it serves: the signal-to-noise ratio that its programs must
    reach against eager torch. ``delegates`` are the ExecuTorch backends that the device's runner must bring.
    """

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    min_sqnr_db: ClassVar[Mapping[str, float]] = {}
    delegates: ClassVar[tuple[str, ...]] = ()
    dynamic_shapes: ClassVar[bool] = True  # one program for any number of tokens up to the largest chunk

    def check(self, quantization: str) -> None:
        """Raises InvalidConfig when this backend cannot run that quantization."""
        if quantization not in self.min_sqnr_db:
            raise InvalidConfig(
                f"backend {self.name} does not run {quantization!r} programs; it runs {', '.join(self.min_sqnr_db)}"
            )

    def runs_on(self, facts: DeviceFacts) -> bool:
        """True when the device's runner brings what its programs delegate to."""
        return facts.delegates.issuperset(self.delegates)

    def quantize(self, module: nn.Module, quantization: str) -> nn.Module:
        """Replaces weights in place; returns the module."""
        return module

    def reference(self, quantized: nn.Module) -> nn.Module:
        """The quantized module in eager torch, computing what the program computes."""
        return quantized

    def partitioners(self) -> list[Any]:
        """ExecuTorch partitioners in their order; what none of them takes runs in ExecuTorch's own kernels."""
        return []

    def compile_options(self) -> dict[str, Any]:
        """Options of EdgeCompileConfig."""
        return {"_check_ir_validity": False}
