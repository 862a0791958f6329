"""Published models as exact architectures; counts are those of the model cards (LFM2: arXiv 2511.23404, Table 1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from foundation.errors import InvalidConfig
from foundation.files import is_file, read_text, shown
from foundation.json_text import read_json
from foundation.registry import Registry
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa, SlidingWindow

LFM2_ATTENTION_LAYERS = frozenset({2, 5, 8, 10, 12, 14})


def _lfm2(d_model: int, num_heads: int, width: int) -> ArchConfig:
    attention, conv = Gqa(num_heads, 8, 64), GatedShortConv(3)
    layers = (LayerConfig(attention if index in LFM2_ATTENTION_LAYERS else conv, SwiGLU(width)) for index in range(16))
    return ArchConfig(d_model, 65_536, tuple(layers))


def lfm2_350m() -> ArchConfig:
    return _lfm2(1024, 16, 4608)


def lfm2_700m() -> ArchConfig:
    return _lfm2(1536, 24, 6912)


def lfm2_1_2b() -> ArchConfig:
    return _lfm2(2048, 32, 8192)


def qwen3_0_6b() -> ArchConfig:
    layer = LayerConfig(Gqa(16, 8, 128), SwiGLU(3072))
    return ArchConfig(1024, 151_936, (layer,) * 28, norm_eps=1e-6)


def gemma3_1b() -> ArchConfig:
    """Five sliding-window layers (512, theta 10k) to one global layer (theta 1M), 26 in all."""
    local = SlidingWindow(4, 1, 256, rope_theta=10_000.0, window=512)
    full = Gqa(4, 1, 256)
    ffn = SwiGLU(6912, "gelu_tanh")
    layers = (LayerConfig(full if index % 6 == 5 else local, ffn) for index in range(26))
    return ArchConfig(
        1152, 262_144, tuple(layers), sandwich_norm=True, norm_eps=1e-6, embedding_multiplier=math.sqrt(1152)
    )


def llama3_2_1b() -> ArchConfig:
    """Llama 3's frequency scaling for long contexts is left out: it changes positions, but not sizes or time."""
    layer = LayerConfig(Gqa(32, 8, 64, qk_norm=False), SwiGLU(8192))
    return ArchConfig(2048, 128_256, (layer,) * 16, rope_theta=500_000.0)


def smollm2_135m() -> ArchConfig:
    layer = LayerConfig(Gqa(9, 3, 64, qk_norm=False), SwiGLU(1536))
    return ArchConfig(576, 49_152, (layer,) * 30, rope_theta=100_000.0)


PRESETS: Registry[Callable[[], ArchConfig]] = Registry("preset")
for _builder in (lfm2_350m, lfm2_700m, lfm2_1_2b, qwen3_0_6b, gemma3_1b, llama3_2_1b, smollm2_135m):
    PRESETS.add(_builder.__name__, _builder)

PUBLISHED_PARAMS = {
    "lfm2_350m": 354_483_968,
    "lfm2_700m": 742_489_344,
    "lfm2_1_2b": 1_170_340_608,
    "qwen3_0_6b": 596_049_920,
    "gemma3_1b": 999_885_952,
    "llama3_2_1b": 1_235_814_400,
    "smollm2_135m": 134_515_008,
}


def preset(name: str) -> ArchConfig:
    return PRESETS.get_or_raise(name)()


def architecture(text: str) -> ArchConfig:
    """The architecture of a preset, or of a JSON file given by its path."""
    if text in PRESETS:
        return preset(text)
    if text.lstrip()[:1] in ("{", "["):
        raise InvalidConfig("that is JSON itself: write it to a file and give the file's path, or name a preset")
    if not is_file(text):
        raise InvalidConfig(f"{shown(text)!r} is neither a preset ({PRESETS.known}) nor a JSON file")
    return arch_of(text, read_text(Path(text)))


def arch_of(name: str, text: str) -> ArchConfig:
    """The architecture in a JSON text; ``name`` is where it was found. Raises InvalidConfig with the first field that
    is wrong."""
    try:
        return ArchConfig.from_dict(read_json(text))
    except (ValueError, InvalidConfig) as error:
        raise InvalidConfig(f"{shown(name)} is not an architecture in JSON: {error}") from None


def debug_size(arch: ArchConfig, d_model: int = 128, vocab_size: int = 512, depth: int = 6) -> ArchConfig:
    """The same layout and options at a tiny size for tests and demos; windows shrink to 32."""
    picks = [arch.layers[round(i * (arch.depth - 1) / max(1, depth - 1))] for i in range(min(depth, arch.depth))]
    return replace(arch, d_model=d_model, vocab_size=vocab_size, layers=tuple(_debug_layer(x, d_model) for x in picks))


def _debug_layer(layer: LayerConfig, d_model: int) -> LayerConfig:
    ffn = replace(layer.ffn, width=2 * d_model) if layer.ffn else None
    return LayerConfig(layer.mixer.at_debug_size(d_model), ffn)
