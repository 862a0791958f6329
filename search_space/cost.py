"""Closed-form costs of an architecture. Every figure is checked against the built model or the exported file in tests.

Quantized linears hold 4-bit (groups of 32, one 16-bit scale each) or 8-bit (one 32-bit scale per row) weights; norms
and depthwise kernels stay float32. Tied embeddings are stored twice once quantized: rows for look-up, packed matrix for
the head.
"""

from __future__ import annotations

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig, LayerConfig
from search_space.mixers.base import Linear

QUANTIZATIONS = {
    "8da4w": "4-bit weights in groups of 32, 8-bit dynamic activations",
    "8da8w": "8-bit weights, 8-bit dynamic activations",
    "fp32": "float32",
}
GROUP_SIZE = 32
CACHE_BYTES = {"fp32": 4, "fp16": 2, "int8": 1}


def params(arch: ArchConfig) -> int:
    """Trainable parameters, tied embeddings counted once."""
    copies = 1 if arch.tie_embeddings else 2
    return copies * embedding_params(arch) + effective_params(arch)


def embedding_params(arch: ArchConfig) -> int:
    return arch.vocab_size * arch.d_model


def embedding_share(arch: ArchConfig) -> float:
    """Embedding and head over all parameters (18.9 % for LFM2-350M)."""
    return 1.0 - effective_params(arch) / params(arch)


def effective_params(arch: ArchConfig) -> int:
    """Parameters outside embedding and head."""
    return sum(layer_params(arch, layer) for layer in arch.layers) + arch.d_model


def layer_params(arch: ArchConfig, layer: LayerConfig) -> int:
    linears = sum(linear.num_params for linear in layer_linears(arch, layer))
    return linears + layer.mixer.num_other_params(arch.d_model) + num_layer_norms(arch, layer) * arch.d_model


def num_layer_norms(arch: ArchConfig, layer: LayerConfig) -> int:
    sublayers = (not layer.mixer.identity) + (layer.ffn is not None)
    return sublayers * (2 if arch.sandwich_norm else 1)


def layer_linears(arch: ArchConfig, layer: LayerConfig) -> tuple[Linear, ...]:
    ffn = layer.ffn.linears(arch.d_model) if layer.ffn else ()
    return (*layer.mixer.linears(arch.d_model), *ffn)


def linear_bytes(linear: Linear, quantization: str) -> int:
    if quantization == "fp32":
        return 4 * linear.num_params
    if quantization == "8da8w":
        return linear.num_params + 4 * linear.out_features
    if quantization == "8da4w":
        return linear.num_params // 2 + 2 * (linear.num_params // GROUP_SIZE)
    raise InvalidConfig(f"unknown quantization {quantization!r}; known: {', '.join(QUANTIZATIONS)}")


def embedding_bytes(arch: ArchConfig, quantization: str) -> int:
    """The look-up rows: 4-bit nibbles with a float32 scale per 32, or int8 rows with one float32 scale each."""
    values = embedding_params(arch)
    if quantization == "fp32":
        return 4 * values
    if quantization == "8da8w":
        return values + 4 * arch.vocab_size
    return values // 2 + 4 * (values // GROUP_SIZE)


def head_linear(arch: ArchConfig) -> Linear:
    return Linear(arch.d_model, arch.vocab_size)


def weight_bytes(arch: ArchConfig, quantization: str) -> int:
    """Weights as deployed: what all the layers, the look-up rows and the head take."""
    linears = sum(linear_bytes(lin, quantization) for layer in arch.layers for lin in layer_linears(arch, layer))
    kept = effective_params(arch) - sum(lin.num_params for layer in arch.layers for lin in layer_linears(arch, layer))
    ends = embedding_bytes(arch, quantization) + linear_bytes(head_linear(arch), quantization)
    return linears + 4 * kept + ends


def cache_bytes(arch: ArchConfig, context: int, cache_dtype: str = "fp32") -> int:
    """Decode state after ``context`` tokens. Keys and values take the cache dtype, other states are
    float32."""
    cached_bytes = CACHE_BYTES[cache_dtype]
    states = [state for layer in arch.layers for state in layer.mixer.states(arch.d_model)]
    return sum(state.num_elements(context) * (cached_bytes if state.in_cache_dtype else 4) for state in states)


def decode_bytes(arch: ArchConfig, context: int, quantization: str, cache_dtype: str = "fp32") -> int:
    """Bytes read to decode one token at ``context``: every weight once, one embedding row, all states."""
    rows = embedding_bytes(arch, quantization)
    return weight_bytes(arch, quantization) - rows + rows // arch.vocab_size + cache_bytes(arch, context, cache_dtype)


def macs_per_token(arch: ArchConfig, context: int) -> int:
    """Multiply-adds per decoded token: the linears, the head, and what grows with the context."""
    linears = sum(lin.num_params for layer in arch.layers for lin in layer_linears(arch, layer))
    mixers = sum(layer.mixer.context_macs(arch.d_model, context) for layer in arch.layers)
    return linears + mixers + head_linear(arch).num_params


def closed_form(arch: ArchConfig, metric: str, context: int | None, quantization: str, cache_dtype: str) -> float:
    """One closed-form metric of ``contracts.metrics`` by its name."""
    at = context or 0
    table = {
        "params": lambda: params(arch),
        "effective_params": lambda: effective_params(arch),
        "embedding_share": lambda: embedding_share(arch),
        "weight_bytes": lambda: weight_bytes(arch, quantization),
        "cache_bytes": lambda: cache_bytes(arch, at, cache_dtype),
        "decode_bytes": lambda: decode_bytes(arch, at, quantization, cache_dtype),
        "memory_bytes": lambda: weight_bytes(arch, quantization) + cache_bytes(arch, at, cache_dtype),
    }
    if metric not in table:
        raise InvalidConfig(f"{metric} has no closed form; these have one: {', '.join(table)}")
    return float(table[metric]())
