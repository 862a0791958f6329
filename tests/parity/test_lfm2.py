"""Against transformers' own Lfm2ForCausalLM on random weights, both ways."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import Lfm2Config, Lfm2ForCausalLM

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa, Skip
from search_space.modeling.families.lfm2 import from_lfm2, to_lfm2
from search_space.modeling.model import build_model
from search_space.rope import Yarn

LAYERS = tuple(LayerConfig(Gqa(4, 2, 32) if i in (1, 3) else GatedShortConv(3), SwiGLU(192)) for i in range(5))
ARCH = ArchConfig(128, 300, LAYERS)
IDS = torch.randint(0, 300, (2, 33), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_ours_to_lfm2_and_back() -> None:
    ours = build_model(ARCH, seed=3).eval()
    theirs = to_lfm2(ours)
    torch.testing.assert_close(theirs(IDS).logits, ours(IDS).logits, atol=2e-6, rtol=0)
    back = from_lfm2(theirs)
    assert back.config.to_arch() == ARCH
    assert torch.equal(back(IDS).logits, ours(IDS).logits)


@torch.no_grad()
def test_yarn_is_transformers_yarn() -> None:
    stretched = replace(ARCH, rope_theta=10_000.0, yarn=Yarn(factor=4.0, original_length=64))
    ours = build_model(stretched, seed=3).eval()
    theirs = to_lfm2(ours)
    ids = torch.randint(0, 300, (1, 200), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(theirs(ids).logits, ours(ids).logits, atol=2e-6, rtol=0)
    assert from_lfm2(theirs).config.to_arch() == stretched
    plain = build_model(replace(stretched, yarn=None), seed=3).eval()
    assert (plain(ids).logits - ours(ids).logits).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("adjust", [False, True])
def test_a_stock_lfm2_becomes_ours(adjust: bool) -> None:
    config = Lfm2Config(
        vocab_size=300, hidden_size=128, intermediate_size=384, block_auto_adjust_ff_dim=adjust, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, layer_types=["conv", "conv", "full_attention", "conv"],
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = Lfm2ForCausalLM(config).eval()
    ours = from_lfm2(theirs)
    torch.testing.assert_close(ours(IDS).logits, theirs(IDS).logits, atol=2e-6, rtol=0)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ((LayerConfig(Skip(), SwiGLU(64)),), "no operator skip"),
        (
            (LayerConfig(GatedShortConv(3), SwiGLU(64)), LayerConfig(GatedShortConv(4), SwiGLU(64))),
            "one convolution kernel",
        ),
        (
            (LayerConfig(GatedShortConv(3), SwiGLU(64)), LayerConfig(GatedShortConv(3), SwiGLU(96))),
            "one feed-forward width",
        ),
        ((LayerConfig(Gqa(2, 1, 32), SwiGLU(64)),), "heads must fill d_model"),
    ],
)
def test_what_lfm2_cannot_say_is_named(layers, words: str) -> None:
    with pytest.raises(InvalidConfig, match=words):
        to_lfm2(build_model(replace(ARCH, layers=layers), seed=0))
