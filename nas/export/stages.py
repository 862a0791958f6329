"""Export as named stages: build -> quantize -> capture -> lower -> serialize. An error names its stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from foundation.errors import ExportFailed, HilnasError
from nas.export.backends import BACKENDS, DEFAULT_BACKEND, Backend

MAX_CHUNK = 512  # tokens that a program takes at once; longer prompts are split
T = TypeVar("T")


def capture(module: nn.Module, inputs: tuple[torch.Tensor, ...], dynamic: bool = True) -> Any:
    """torch.export with a dynamic token axis of the first input, from 1 to MAX_CHUNK."""
    token_axis = {1: torch.export.Dim("T", min=1, max=MAX_CHUNK)}
    shapes = tuple(token_axis if i == 0 else None for i in range(len(inputs))) if dynamic else None
    with torch.no_grad():
        return torch.export.export(module.eval(), inputs, dynamic_shapes=shapes, strict=False)


def lower(program: Any, backend: Backend) -> Any:
    """Lowers to edge dialect and delegates every subgraph that the backend takes."""
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    return to_edge_transform_and_lower(
        program, partitioner=backend.partitioners(), compile_config=EdgeCompileConfig(**backend.compile_options())
    )


def serialize(edge: Any) -> bytes:
    """The .pte: inputs and outputs live in the caller's memory, so chains pass hidden states without copies."""
    from executorch.exir import ExecutorchBackendConfig
    from executorch.exir.passes import MemoryPlanningPass

    planning = MemoryPlanningPass(alloc_graph_input=False, alloc_graph_output=False)
    return bytes(edge.to_executorch(ExecutorchBackendConfig(memory_planning_pass=planning)).buffer)


def compile_program(
    module: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    quantization: str,
    dynamic: bool = True,
    backend: str = DEFAULT_BACKEND,
) -> tuple[bytes, Any]:
    """(program bytes, lowered edge manager for reports). Raises ExportFailed with the stage."""
    target = BACKENDS.get_or_raise(backend)
    staged("quantize", lambda: target.quantize(module, quantization))
    captured = staged("capture", lambda: capture(module, inputs, dynamic and target.dynamic_shapes))
    edge = staged("lower", lambda: lower(captured, target))
    return staged("serialize", lambda: serialize(edge)), edge


def staged(stage: str, work: Callable[[], T]) -> T:
    """Raises ExportFailed with the stage for whatever goes wrong in ``work``, apart from errors that are explained."""
    try:
        return work()
    except HilnasError:
        raise
    except Exception as error:  # the exporter raises exceptions of many kinds
        raise ExportFailed(stage, f"{type(error).__name__}: {error}") from error
