"""Architectures: validation in sentences, canonical text, codec."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import MIXERS, GatedShortConv, Gqa, Skip, SlidingWindow
from search_space.presets import PRESETS, debug_size, preset


def one_layer(mixer, d_model: int = 64) -> ArchConfig:
    return ArchConfig(d_model, 256, (LayerConfig(mixer, SwiGLU(128)),))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_the_codec(name: str) -> None:
    arch = preset(name)
    copy = ArchConfig.from_dict(json.loads(json.dumps(arch.to_dict())))
    assert copy == arch
    assert copy.digest == arch.digest


def test_the_digest_is_the_same_in_another_process() -> None:
    code = "from search_space.presets import preset; print(preset('lfm2_350m').digest)"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == preset("lfm2_350m").digest


def test_whole_floats_and_integers_are_one_text() -> None:
    a = one_layer(Gqa(4, 2, 16))
    b = ArchConfig.from_dict({**a.to_dict(), "rope_theta": 1_000_000})
    assert a.digest == b.digest


@pytest.mark.parametrize(
    ("mixer", "words"),
    [
        (Gqa(6, 4, 16), "num_kv_heads must divide num_heads, got 4 for 6 heads (would work: 1, 2, 3, 6)"),
        (Gqa(4, 2, 15), "head_dim must be even"),
        (GatedShortConv(1), "kernel must be 2 to 64, got 1"),
        (SlidingWindow(4, 2, 16, window=0), "window must be a positive whole number, got 0"),
    ],
)
def test_impossible_mixers_are_answered_with_what_would_work(mixer, words: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        one_layer(mixer)
    assert words in str(caught.value)
    assert "layer 0" in str(caught.value)


def test_unknown_mixer_names_the_known_ones() -> None:
    data = one_layer(Skip()).to_dict()
    data["layers"][0]["mixer"] = {"kind": "mamba9"}
    with pytest.raises(InvalidConfig, match="unknown mixer 'mamba9'; known: gated_short_conv, gqa"):
        ArchConfig.from_dict(data)


def test_unknown_fields_are_named() -> None:
    with pytest.raises(InvalidConfig, match="unknown field 'd_mode'"):
        ArchConfig.from_dict({"d_mode": 64})
    with pytest.raises(InvalidConfig, match="unknown option 'heads'"):
        data = one_layer(Gqa(4, 2, 16)).to_dict()
        data["layers"][0]["mixer"]["heads"] = 3
        ArchConfig.from_dict(data)


def test_d_model_names_the_nearest_that_works() -> None:
    with pytest.raises(InvalidConfig, match=r"got 100 \(nearest: 96\)"):
        one_layer(Skip(), d_model=100)


@pytest.mark.parametrize("name", PRESETS)
def test_debug_sizes_keep_the_operators(name: str) -> None:
    small = debug_size(preset(name))
    assert {layer.mixer.kind for layer in small.layers} <= {layer.mixer.kind for layer in preset(name).layers}
    assert small.d_model == 128


def test_every_mixer_is_in_the_table_under_its_kind() -> None:
    assert all(cls.kind == kind for kind, cls in MIXERS.items())
