"""A configuration holds every size once: a resized model is saved, loaded and exported; drafts are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from foundation.errors import InvalidConfig
from hilnas.cli.export import arch_of_config
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa, MixerConfig, SlidingWindow
from search_space.modeling.families import FAMILIES
from search_space.modeling.model import HilnasForCausalLM, build_model


def arch_with(*mixers: MixerConfig, **options: float) -> ArchConfig:
    return ArchConfig(64, 97, tuple(LayerConfig(mixer, SwiGLU(64)) for mixer in mixers), **options)  # type: ignore[arg-type]


ARCH = arch_with(GatedShortConv(3), Gqa(2, 1, 32))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("size", [128, 64])
def test_a_resized_model_is_loaded_again(tmp_path: Path, tied: bool, size: int) -> None:
    model = build_model(replace(ARCH, tie_embeddings=tied), seed=0)
    model.resize_token_embeddings(size, mean_resizing=False)
    assert model.config.to_arch().vocab_size == model.config.vocab_size == size
    model.save_pretrained(tmp_path)
    again = HilnasForCausalLM.from_pretrained(tmp_path)
    ids = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(again(ids).logits, model.eval()(ids).logits)
    assert arch_of_config(tmp_path) == again.config.to_arch() == replace(ARCH, tie_embeddings=tied, vocab_size=size)


def test_the_file_holds_the_sizes_for_other_tools(tmp_path: Path) -> None:
    build_model(ARCH, seed=0).save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    assert (stored["vocab_size"], stored["depth"], stored["d_model"]) == (97, 2, 64)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert (loaded.vocab_size, loaded.num_hidden_layers, loaded.hidden_size) == (97, 2, 64)


@pytest.mark.parametrize("how", ["prompt_lookup", "assistant"])
def test_assisted_decoding_is_explained(how: str) -> None:
    model = build_model(ARCH, seed=0).eval()
    options = {"prompt_lookup_num_tokens": 3} if how == "prompt_lookup" else {"assistant_model": build_model(ARCH)}
    with pytest.raises(InvalidConfig, match="leave out assistant_model and prompt_lookup_num_tokens"):
        model.generate(torch.tensor([[1, 2, 3, 1, 2]]), max_new_tokens=4, **options)


@pytest.mark.parametrize(
    ("family", "mixers"),
    [
        ("lfm2", (GatedShortConv(3), Gqa(2, 1, 32), Gqa(2, 1, 32, rope_theta=1e6))),
        ("llama", (Gqa(2, 1, 32, qk_norm=False), Gqa(2, 1, 32, qk_norm=False, rope_theta=1e6))),
        ("qwen3", (Gqa(2, 1, 32), SlidingWindow(2, 1, 32, rope_theta=1e6, window=8))),
    ],
)
def test_a_base_equal_to_the_architectures_is_no_base_of_its_own(family: str, mixers: tuple[MixerConfig, ...]) -> None:
    config = FAMILIES[family].config_of(arch_with(*mixers))
    assert config.rope_parameters["rope_theta"] == 1e6
    with pytest.raises(InvalidConfig):
        FAMILIES[family].config_of(arch_with(*mixers, rope_theta=5e5))
