"""The proxy model of a candidate: same depth, mixers and proportions, small enough to train in seconds."""

from __future__ import annotations

from dataclasses import replace

from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import ProxySize

REFERENCE_CONTEXT = 2048


def proxy_of(
    arch: ArchConfig, width: int, vocab_size: int, length: int, reference_context: int = REFERENCE_CONTEXT
) -> ArchConfig:
    """``arch`` at ``d_model = width`` (a multiple of 32) over another vocabulary, for rows of ``length`` tokens. Each
    mixer defines how it shrinks (``MixerConfig.shrunk``)."""
    size = ProxySize(width, arch.d_model, length, reference_context)
    layers = tuple(
        LayerConfig(layer.mixer.shrunk(size), _narrowed(layer.ffn, arch.d_model, width)) for layer in arch.layers
    )
    return replace(
        arch, d_model=width, vocab_size=vocab_size, layers=layers, embedding_multiplier=1.0, rope_theta=10_000.0,
        yarn=None,
    )


def _narrowed(ffn: SwiGLU | None, d_model: int, width: int) -> SwiGLU | None:
    return replace(ffn, width=max(8, round(ffn.width * width / d_model / 8) * 8)) if ffn else None
