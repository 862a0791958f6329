"""Closed forms against the built models and the published counts."""

from __future__ import annotations

import pytest

from search_space import cost
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa, Skip, SlidingWindow
from search_space.presets import PRESETS, PUBLISHED_PARAMS, debug_size, preset

VARIED = ArchConfig(
    64, 256,
    (
        LayerConfig(GatedShortConv(7), SwiGLU(96)), LayerConfig(Gqa(4, 2, 16, gate=True), None),
        LayerConfig(SlidingWindow(4, 1, 32, qk_norm=False, window=8), SwiGLU(160)), LayerConfig(Skip(), SwiGLU(64)),
    ),
    tie_embeddings=False, sandwich_norm=True,
)  # fmt: skip
ARCHS = {**{name: debug_size(preset(name)) for name in PRESETS}, "varied": VARIED}


@pytest.mark.parametrize("name", PRESETS)
def test_parameter_counts_equal_the_published_ones(name: str) -> None:
    assert cost.params(preset(name)) == PUBLISHED_PARAMS[name]


@pytest.mark.parametrize("name", ARCHS)
def test_parameters_equal_the_built_model(name: str) -> None:
    from search_space.modeling.model import build_model

    model = build_model(ARCHS[name], seed=0)
    assert cost.params(ARCHS[name]) == sum(p.numel() for p in model.parameters())
    inner = sum(p.numel() for n, p in model.named_parameters() if "embed_tokens" not in n and "lm_head" not in n)
    assert cost.effective_params(ARCHS[name]) == inner


@pytest.mark.parametrize("name", ARCHS)
@pytest.mark.parametrize("context", [5, 40])
def test_cache_bytes_equal_what_the_model_keeps(name: str, context: int) -> None:
    import torch

    from search_space.modeling.model import build_model

    arch = ARCHS[name]
    model = build_model(arch, seed=0).eval()
    with torch.no_grad():
        cache = model(torch.zeros(1, context, dtype=torch.long), use_cache=True).past_key_values
    # The torch cache drops the row that leaves the window with the next token; the device's ring keeps it.
    kept = sum(
        2 * s.num_kv_heads * s.head_dim * (min(context, s.window) - min(context, s.window - 1))
        for layer in arch.layers for s in layer.mixer.states(arch.d_model) if getattr(s, "window", 0)
    )  # fmt: skip
    assert cost.cache_bytes(arch, context, "fp32") == 4 * (cache.num_elements() + kept)


def test_cache_dtype_scales_the_kv_part_only() -> None:
    arch = preset("lfm2_350m")
    conv = 10 * 1024 * 2 * 4
    assert cost.cache_bytes(arch, 32768, "fp16") - conv == 384 * 2**20
    assert cost.cache_bytes(arch, 32768, "fp32") - conv == 2 * 384 * 2**20
    assert cost.cache_bytes(arch, 32768, "int8") - conv == 192 * 2**20


def test_embedding_share_matches_the_published_one() -> None:
    assert cost.embedding_share(preset("lfm2_350m")) == pytest.approx(0.189, abs=5e-4)
    assert cost.embedding_share(preset("lfm2_1_2b")) == pytest.approx(0.115, abs=5e-4)


def test_decode_reads_every_weight_once_and_one_row() -> None:
    arch = preset("lfm2_350m")
    rows = cost.embedding_bytes(arch, "8da4w")
    expected = cost.weight_bytes(arch, "8da4w") - rows + rows // arch.vocab_size + cost.cache_bytes(arch, 512)
    assert cost.decode_bytes(arch, 512, "8da4w") == expected
