"""Export as named stages: quantize -> capture -> lower -> serialize. A failure says which stage it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from foundation.errors import ExportFailed, HilnasError
from search_space.cost import GROUP_SIZE, QUANTIZATIONS

MAX_CHUNK = 512  # tokens a program takes at once; longer prompts come in chunks
T = TypeVar("T")


def quantize(module: nn.Module, quantization: str) -> nn.Module:
    """Replaces the weights of every linear in place: 8-bit dynamic activations, 4-bit (groups of 32) or 8-bit
    weights."""
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, quantize_
    from torchao.quantization.granularity import PerAxis, PerGroup

    if quantization == "8da4w":
        config = Int8DynamicActivationIntxWeightConfig(
            weight_dtype=torch.int4,  # type: ignore[attr-defined]
            weight_granularity=PerGroup(GROUP_SIZE),
        )
    elif quantization == "8da8w":
        config = Int8DynamicActivationIntxWeightConfig(weight_dtype=torch.int8, weight_granularity=PerAxis(0))
    elif quantization == "fp32":
        return module
    else:
        raise ExportFailed("quantize", f"unknown quantization {quantization!r}; known: {', '.join(QUANTIZATIONS)}")
    quantize_(module, config)
    return module


def capture(module: nn.Module, inputs: tuple[torch.Tensor, ...], dynamic: bool = True) -> Any:
    """torch.export with the token axis of the first input free from 1 to MAX_CHUNK."""
    token_axis = {1: torch.export.Dim("T", min=1, max=MAX_CHUNK)}
    shapes = tuple(token_axis if i == 0 else None for i in range(len(inputs))) if dynamic else None
    with torch.no_grad():
        return torch.export.export(module.eval(), inputs, dynamic_shapes=shapes, strict=False)


def lower(program: Any) -> Any:
    """To edge dialect with every subgraph XNNPACK takes handed to it."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import (
        XnnpackDynamicallyQuantizedPartitioner,
        XnnpackPartitioner,
    )
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    return to_edge_transform_and_lower(
        program,
        partitioner=[XnnpackDynamicallyQuantizedPartitioner(), XnnpackPartitioner()],
        compile_config=EdgeCompileConfig(_check_ir_validity=False),
    )


def serialize(edge: Any) -> bytes:
    """The .pte: inputs and outputs live in the caller's memory, so chains pass hidden states without copies."""
    from executorch.exir import ExecutorchBackendConfig
    from executorch.exir.passes import MemoryPlanningPass

    planning = MemoryPlanningPass(alloc_graph_input=False, alloc_graph_output=False)
    return bytes(edge.to_executorch(ExecutorchBackendConfig(memory_planning_pass=planning)).buffer)


def compile_program(
    module: nn.Module, inputs: tuple[torch.Tensor, ...], quantization: str, dynamic: bool = True
) -> tuple[bytes, Any]:
    """(program bytes, lowered edge manager for reports). Raises ExportFailed with the stage."""
    _staged("quantize", lambda: quantize(module, quantization))
    captured = _staged("capture", lambda: capture(module, inputs, dynamic))
    edge = _staged("lower", lambda: lower(captured))
    return _staged("serialize", lambda: serialize(edge)), edge


def _staged(stage: str, work: Callable[[], T]) -> T:
    try:
        return work()
    except HilnasError:
        raise
    except Exception as error:  # the exporter's own exceptions are many; each is told with its stage
        raise ExportFailed(stage, f"{type(error).__name__}: {error}") from error
