"""The share of a program that XNNPACK runs, and the operators left to other kernels."""

from __future__ import annotations

from collections import Counter
from typing import Any

from search_space.arch import ArchConfig
from search_space.cost import head_linear, layer_linears


def describe_delegation(edge: Any) -> dict[str, Any]:
    """Counts from a lowered program: delegated subgraphs, and each operator that is not delegated."""
    graph = edge.exported_program().graph
    left, delegates = Counter[str](), 0
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        name = str(node.target)
        if "executorch_call_delegate" in name:
            delegates += 1
        elif "getitem" not in name and "alloc" not in name:
            left[name.split(".out")[0]] += 1
    return {"num_delegates": delegates, "left": dict(left)}


def macs_outside_xnnpack(arch: ArchConfig, context: int) -> dict[str, float]:
    """Multiply-adds per decoded token by where they run: linears are delegated, work that grows with context is not.

    ``share`` is the part outside XNNPACK; a block's own report lists the operators.
    """
    linears = sum(lin.num_params for layer in arch.layers for lin in layer_linears(arch, layer))
    delegated = linears + head_linear(arch).num_params
    outside = sum(layer.mixer.context_macs(arch.d_model, context) for layer in arch.layers)
    return {"delegated": delegated, "outside": outside, "share": outside / (delegated + outside)}
