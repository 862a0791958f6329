"""Every field of an architecture is of its type and in its range, those of plugins' mixers too."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import MIXERS, GatedShortConv, Gqa, MixerConfig, SlidingWindow
from search_space.presets import architecture
from search_space.rope import Llama3Scaling, Yarn


@dataclass(frozen=True)
class Tuned(MixerConfig):
    """As a plugin's: scalars of all types, and no check of its own."""

    kind: ClassVar[str] = "tuned"
    taps: int
    decay: float = 0.5
    gated: bool = False
    mode: str = "plain"
    limit: int | None = None


@pytest.fixture(autouse=True)
def with_the_plugin() -> Iterator[None]:
    with MIXERS.temporarily({"tuned": Tuned}):
        yield


def whole() -> ArchConfig:
    layers = [LayerConfig(mixer, SwiGLU(64)) for mixer in (GatedShortConv(3), Gqa(2, 1, 32), SlidingWindow(2, 1, 32))]
    return ArchConfig(64, 97, (*layers, LayerConfig(Tuned(4), None)), yarn=Yarn(4.0, 64))


def changed(path: str, value: Any) -> dict[str, Any]:
    """The plain data with one place replaced: ``layers.1.mixer.gate``."""
    data = deepcopy(whole().to_dict())
    *way, last = path.split(".")
    place: Any = data
    for step in way:
        place = place[int(step) if isinstance(place, list) else step]
    place[last] = value
    return data


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("tie_embeddings", "false", "architecture: tie_embeddings must be true or false, got 'false'"),
        ("sandwich_norm", 0, "architecture: sandwich_norm must be true or false, got 0"),
        ("sandwich_norm", None, "architecture: sandwich_norm must be true or false, got None"),
        ("norm_eps", NAN, "architecture: norm_eps must be a finite number within ±1e+12, got nan"),
        ("norm_eps", -1, "architecture: norm_eps must be above 0 and at most 1, got -1"),
        ("norm_eps", "1e-5", "architecture: norm_eps must be a finite number"),
        ("norm_eps", True, "architecture: norm_eps must be a finite number"),
        ("rope_theta", 0, "architecture: rope_theta must be above 1, got 0"),
        ("rope_theta", None, "architecture: rope_theta must be a finite number"),
        ("embedding_multiplier", INF, "architecture: embedding_multiplier must be a finite number"),
        ("embedding_multiplier", "2", "architecture: embedding_multiplier must be a finite number"),
        ("embedding_multiplier", 0, "architecture: embedding_multiplier must be above 0, got 0"),
        ("embedding_multiplier", 10**400, "architecture: embedding_multiplier must be a finite number"),
        ("vocab_size", 10**30, "architecture: vocab_size must be a whole number within ±2147483647"),
        ("vocab_size", 97.0, "architecture: vocab_size must be a whole number"),
        ("yarn", 5, "architecture: yarn: expected an object with factor, original_length"),
        ("yarn", {"factor": 4.0}, "architecture: yarn: field 'original_length' is missing"),
        ("yarn.factor", NAN, "yarn: factor must be a finite number"),
        ("yarn.original_length", 64.0, "yarn: original_length must be a whole number"),
        ("llama3", {"factor": INF, "original_length": 8}, "llama3: factor must be a finite number"),
        ("layers", 5, "architecture: layers must be a list of layers, got 5"),
        ("layers", None, "architecture: layers must be a list of layers, got None"),
        ("layers", [5], "layer 0: layer: expected an object with mixer, ffn, got 5"),
        ("layers.0.ffn", {}, "layer 0: ffn: field 'width' is missing; fields: width, activation"),
        ("layers.0.ffn", {"activation": "silu"}, "layer 0: ffn: field 'width' is missing"),
        ("layers.0.ffn", 64, "layer 0: ffn: expected an object with width, activation, got 64"),
        ("layers.0.ffn.width", "64", "layer 0: ffn: width must be a whole number"),
        ("layers.0.ffn.activation", 1, "layer 0: ffn: activation must be text, got 1"),
        ("layers.1.mixer.gate", "false", "layer 1: gqa: gate must be true or false, got 'false'"),
        ("layers.1.mixer.qk_norm", "no", "layer 1: gqa: qk_norm must be true or false, got 'no'"),
        ("layers.1.mixer.rope_theta", -1, "layer 1: gqa: rope_theta must be above 1, or 0 for the architecture's"),
        ("layers.1.mixer.rope_theta", NAN, "layer 1: gqa: rope_theta must be a finite number"),
        ("layers.2.mixer.window", 1e3, "layer 2: sliding_window: window must be a whole number"),
        ("layers.3.mixer", {"kind": "tuned"}, "layer 3: tuned: option 'taps' is missing; options: taps, decay"),
        ("layers.3.mixer.taps", "4", "layer 3: tuned: taps must be a whole number"),
        ("layers.3.mixer.decay", NAN, "layer 3: tuned: decay must be a finite number"),
        ("layers.3.mixer.gated", 1, "layer 3: tuned: gated must be true or false, got 1"),
        ("layers.3.mixer.mode", 1, "layer 3: tuned: mode must be text, got 1"),
        ("layers.3.mixer.limit", "x", "layer 3: tuned: limit must be a whole number within ±2147483647 or null"),
    ],
)
def test_a_field_of_another_type_or_range_is_named(path: str, value: Any, words: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        ArchConfig.from_dict(changed(path, value))
    assert str(caught.value).startswith(words)
    assert len(str(caught.value)) < 250


def places(data: Any, path: str = "") -> Iterator[str]:
    """Every place of the plain data that holds a scalar."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for name, value in items:
        where = f"{path}.{name}".lstrip(".")
        yield from places(value, where) if isinstance(value, dict | list) else [where]


WRONG = st.one_of(
    st.none(), st.booleans(), st.text(max_size=5), st.floats(), st.integers(), st.sampled_from([[], {}, "false"])
)


@given(st.sampled_from([*places(whole().to_dict())]), WRONG)
def test_whatever_stands_at_a_place_gives_an_architecture_or_a_sentence(path: str, value: Any) -> None:
    """What is accepted has one digest for one meaning: its own plain data reads back as the same."""
    try:
        arch = ArchConfig.from_dict(changed(path, value))
    except InvalidConfig:
        return
    again = ArchConfig.from_dict(arch.to_dict())
    assert again == arch and again.digest == arch.digest
    assert "NaN" not in arch.canonical_json() and "Infinity" not in arch.canonical_json()


def test_a_whole_number_stands_for_a_float() -> None:
    arch = ArchConfig.from_dict(changed("rope_theta", 10_000))
    assert arch == replace(whole(), rope_theta=10_000.0) and type(arch.rope_theta) is float
    assert type(Llama3Scaling(8, 64).factor) is float


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"d_model": 64, "d_model": 96, "vocab_size": 9, "layers": []}', "an object has the key 'd_model' twice"),
        ('{"d_model": 64, "vocab_size": 9, "layers": [], "norm_eps": NaN}', "NaN is not a number in JSON"),
        ('{"d_model": 64, "vocab_size": 9, "layers": [], "norm_eps": 1e400}', "the number 1e400 is too large"),
        ("[1]", "architecture: expected an object with d_model, vocab_size"),
        ("", "Expecting value"),
        ("[" * 100_000, "it is nested too deeply"),
    ],
)
def test_a_file_that_is_no_architecture(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "arch.json").write_text(text)
    with pytest.raises(InvalidConfig, match="is not an architecture in JSON: ") as caught:
        architecture(str(tmp_path / "arch.json"))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"d_model": 64, "layers": [' + "1, " * 200, "that is JSON itself: write it to a file"),
        (" [1]", "that is JSON itself"),
        ("x" * 5000, "is neither a preset (lfm2_350m"),
        ("a\0b", "is neither a preset"),
        (".", "is neither a preset"),
        ("", "'' is neither a preset"),
    ],
)
def test_what_is_neither_a_preset_nor_a_file(text: str, words: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        architecture(text)
    assert words in str(caught.value)
