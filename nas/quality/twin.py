"""The width-reduced twin of a candidate: same depth, operators and proportions, small enough to train in seconds."""

from __future__ import annotations

from dataclasses import replace

from nas.quality.tasks import LENGTH, VOCAB_SIZE
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import Gqa, MixerConfig, SlidingWindow

HEAD_DIM = 16
REFERENCE_CONTEXT = 2048  # a window covers the same share of the twin's sequence as of this context
MIN_WINDOW = 4


def twin_of(arch: ArchConfig, width: int) -> ArchConfig:
    """``arch`` at ``d_model = width`` (a multiple of 32) over the tasks' vocabulary."""
    layers = tuple(
        LayerConfig(_mixer(layer.mixer, width), _ffn(layer.ffn, arch.d_model, width)) for layer in arch.layers
    )
    return replace(
        arch, d_model=width, vocab_size=VOCAB_SIZE, layers=layers, embedding_multiplier=1.0, rope_theta=10_000.0
    )


def _mixer(mixer: MixerConfig, width: int) -> MixerConfig:
    if not isinstance(mixer, Gqa):
        return mixer
    heads = max(1, width // HEAD_DIM)
    group = min(heads, mixer.num_heads // mixer.num_kv_heads)
    kv_heads = max(1, heads // group)
    small = replace(mixer, num_heads=kv_heads * group, num_kv_heads=kv_heads, head_dim=HEAD_DIM, rope_theta=0.0)
    if isinstance(small, SlidingWindow):
        small = replace(small, window=max(MIN_WINDOW, small.window * LENGTH // REFERENCE_CONTEXT))
    return small


def _ffn(ffn: SwiGLU | None, d_model: int, width: int) -> SwiGLU | None:
    return replace(ffn, width=max(8, round(ffn.width * width / d_model / 8) * 8)) if ffn else None
