"""The proxy model of a candidate: same depth, mixers and proportions, small enough to train in seconds."""

from __future__ import annotations

from dataclasses import replace

from nas.quality.tasks import LENGTH, VOCAB_SIZE
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import ProxySize

HEAD_DIM = 16
REFERENCE_CONTEXT = 2048


def proxy_of(arch: ArchConfig, width: int) -> ArchConfig:
    """``arch`` at ``d_model = width`` (a multiple of 32) over the tasks' vocabulary. Each mixer defines how it shrinks
    (``MixerConfig.shrunk``)."""
    size = ProxySize(width, HEAD_DIM, LENGTH, REFERENCE_CONTEXT)
    layers = tuple(
        LayerConfig(layer.mixer.shrunk(size), _narrowed(layer.ffn, arch.d_model, width)) for layer in arch.layers
    )
    return replace(
        arch, d_model=width, vocab_size=VOCAB_SIZE, layers=layers, embedding_multiplier=1.0, rope_theta=10_000.0
    )


def _narrowed(ffn: SwiGLU | None, d_model: int, width: int) -> SwiGLU | None:
    return replace(ffn, width=max(8, round(ffn.width * width / d_model / 8) * 8)) if ffn else None
