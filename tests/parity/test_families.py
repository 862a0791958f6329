"""Families of transformers on random weights: logits and greedy text equal both ways, nothing dropped in silence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Lfm2Config, LlamaConfig, Qwen3Config

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa, Skip, SlidingWindow
from search_space.modeling.families import FAMILIES, from_stock, load_directory, read_config, to_stock
from search_space.modeling.model import build_model

SIZES: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": None, "pad_token_id": None,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10_000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
YARN = {
    "rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 32,
    "beta_fast": 32.0, "beta_slow": 1.0,
}  # fmt: skip
CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "llama, untied, wide heads, llama3": LlamaConfig(
        **SIZES, tie_word_embeddings=False, head_dim=32, rope_parameters=LLAMA3
    ),
    "llama, gelu, yarn": LlamaConfig(**SIZES, hidden_act="gelu_pytorch_tanh", rope_parameters=YARN),
    "qwen3": Qwen3Config(**SIZES, tie_word_embeddings=True, head_dim=32),
    "qwen3, untied, windows": Qwen3Config(
        **SIZES, tie_word_embeddings=False, use_sliding_window=True, sliding_window=8, max_window_layers=1, head_dim=32
    ),
    "lfm2": Lfm2Config(
        **SIZES, tie_word_embeddings=True, layer_types=["conv", "full_attention", "conv"],
        block_auto_adjust_ff_dim=False,
    ),
    "lfm2, untied, adjusted width": Lfm2Config(
        **{**SIZES, "intermediate_size": 384}, tie_word_embeddings=False, conv_L_cache=4,
        layer_types=["full_attention", "conv", "conv"],
    ),
}  # fmt: skip
IDS = torch.randint(0, 300, (2, 70), generator=torch.Generator().manual_seed(0))


def stock(config: Any) -> Any:
    """A random model whose logits differ enough for greedy text to mean something."""
    torch.manual_seed(0)
    model = FAMILIES[config.model_type].model_class(config).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.mul_(4) if value.dim() > 1 else value.add_(0.1 * torch.randn_like(value))
    return model


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGS)
def test_logits_and_greedy_text_are_equal_both_ways(name: str) -> None:
    theirs = stock(CONFIGS[name])
    ours = from_stock(theirs)
    torch.testing.assert_close(ours(IDS).logits, theirs(IDS).logits, atol=1e-4, rtol=0)
    back = to_stock(ours, FAMILIES[CONFIGS[name].model_type])
    assert type(back) is type(theirs)
    torch.testing.assert_close(back(IDS).logits, theirs(IDS).logits, atol=1e-6, rtol=0)
    greedy = {"max_new_tokens": 64, "min_new_tokens": 64, "do_sample": False, "pad_token_id": 0}
    said = [model.generate(IDS[:1, :8], **greedy).tolist() for model in (theirs, ours, back)]
    assert said[0] == said[1] == said[2]
    assert from_stock(back).config.to_arch() == ours.config.to_arch()


@torch.no_grad()
@pytest.mark.parametrize("name", ["llama, untied, wide heads, llama3", "qwen3"])
def test_a_directory_is_read_as_it_was_saved(name: str, tmp_path: Path) -> None:
    theirs = stock(CONFIGS[name])
    theirs.save_pretrained(tmp_path)
    ours = load_directory(tmp_path)
    torch.testing.assert_close(ours(IDS).logits, theirs(IDS).logits, atol=1e-4, rtol=0)
    assert ours.config.bos_token_id == 1


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("llama", {"attention_bias": True}, "attention_bias=True"),
        ("llama", {"mlp_bias": True}, "mlp_bias=True"),
        ("llama", {"attention_dropout": 0.1}, "attention_dropout=0.1"),
        ("llama", {"pretraining_tp": 2}, "pretraining_tp=2"),
        ("llama", {"hidden_act": "relu"}, "hidden_act='relu'"),
        ("llama", {"invented": 3}, "invented=3"),
        ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}, "rope type 'linear'"),
        ("llama", {"rope_parameters": {**YARN, "attention_factor": 2.0}}, "attention_factor=2.0"),
        ("lfm2", {"rope_parameters": {**YARN, "mscale": 2.0, "mscale_all_dim": 1.0}}, "mscale=2.0"),
        ("lfm2", {"rope_parameters": {**YARN, "truncate": False}}, "truncate=False"),
        ("lfm2", {"conv_bias": True}, "conv_bias=True"),
        ("qwen3", {"attention_bias": True}, "attention_bias=True"),
    ],
)
def test_what_would_be_lost_is_refused_by_name(name: str, change: dict[str, Any], words: str) -> None:
    config = type(CONFIGS[name])(**{**CONFIGS[name].to_dict(), **change})
    with pytest.raises(InvalidConfig, match=words):
        read_config(config)


def test_an_attention_factor_that_changes_nothing_is_fine() -> None:
    config = Lfm2Config(
        **{**CONFIGS["lfm2"].to_dict(), "rope_parameters": {**YARN, "mscale": 1.0, "mscale_all_dim": 0.0}}
    )
    assert read_config(config).yarn is not None


@torch.no_grad()
def test_an_explicit_head_width_of_lfm2_is_read() -> None:
    theirs = stock(Lfm2Config(**{**CONFIGS["lfm2"].to_dict(), "head_dim": 32}))
    torch.testing.assert_close(from_stock(theirs)(IDS).logits, theirs(IDS).logits, atol=1e-4, rtol=0)


def test_a_weight_too_many_and_one_too_few_are_named(tmp_path: Path) -> None:
    stock(CONFIGS["qwen3"]).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    lost = weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InvalidConfig, match=r"layers\.1\.mlp\.up_proj\.weight is missing"):
        load_directory(tmp_path)
    weights |= {"model.layers.1.mlp.up_proj.weight": lost, "model.layers.1.mlp.extra.weight": lost.clone()}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InvalidConfig, match=r"mlp\.extra\.weight has no place"):
        load_directory(tmp_path)


def test_a_family_that_is_not_registered_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(InvalidConfig, match="unknown model family 'gpt2'; known: .*llama"):
        load_directory(tmp_path)
    with pytest.raises(InvalidConfig, match="no config.json"):
        load_directory(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("family", "layers", "words"),
    [
        ("llama", (LayerConfig(Gqa(2, 1, 32), SwiGLU(64)),), "no QK norm"),
        ("llama", (LayerConfig(Skip(), SwiGLU(64)),), "one attention over the whole context"),
        ("llama", (LayerConfig(Gqa(2, 1, 32, qk_norm=False), None),), "one feed-forward width"),
        ("qwen3", (LayerConfig(GatedShortConv(3), SwiGLU(64)),), "one attention shape"),
        (
            "qwen3",
            (LayerConfig(SlidingWindow(2, 1, 32, window=8), SwiGLU(64)),
             LayerConfig(SlidingWindow(2, 1, 32, window=9), SwiGLU(64))),
            "one sliding window",
        ),
        ("lfm2", (LayerConfig(Gqa(2, 1, 32), SwiGLU(64, "gelu_tanh")),), "SiLU"),
    ],
)  # fmt: skip
def test_what_a_stock_class_cannot_hold_is_named(family: str, layers: Any, words: str) -> None:
    model = build_model(ArchConfig(64, 300, layers), seed=0)
    with pytest.raises(InvalidConfig, match=words):
        to_stock(model, FAMILIES[family])


def test_without_a_family_the_first_that_fits_is_taken() -> None:
    arch = ArchConfig(64, 300, (LayerConfig(Gqa(4, 2, 32), SwiGLU(64)),))
    assert type(to_stock(build_model(arch, seed=0))).__name__ == "Qwen3ForCausalLM"
    with pytest.raises(InvalidConfig, match="Llama.*Qwen3"):
        to_stock(build_model(replace(arch, sandwich_norm=True), seed=0))
