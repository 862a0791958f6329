"""The shapes of decoders whose weights are not imported: what decides their time, read from ``config.json``.

Everything that is left out is named. A model whose layers cannot be expressed is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import Gqa, SlidingWindow

Config = Mapping[str, Any]
Shape = tuple[ArchConfig, list[str]]
ACTIVATIONS = {"silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_tanh": "gelu_tanh"}


def shape_of(config: Config) -> Shape:
    """(architecture, what of the model it leaves out). Raises InvalidConfig naming the model types that are known."""
    kind = config["model_type"]
    if isinstance(config.get("text_config"), Mapping):
        config = {"model_type": f"{kind}_text", **config["text_config"]}
        kind = config["model_type"]
    if kind not in READERS:
        raise InvalidConfig(f"the shapes of model_type {kind!r} cannot be read; known: {', '.join(sorted(READERS))}")
    try:
        return READERS[kind](config)
    except KeyError as error:
        raise InvalidConfig(f"config.json of a {kind} has no {error.args[0]}") from None
    except (TypeError, ZeroDivisionError) as error:
        raise InvalidConfig(f"config.json of a {kind} holds a value that is none: {error}") from None


def _heads(config: Config, qk_norm: bool) -> Gqa:
    heads = config["num_attention_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    return Gqa(heads, config.get("num_key_value_heads") or heads, width, qk_norm=qk_norm)


def _feed_forward(config: Config) -> SwiGLU:
    given = config.get("hidden_activation") or config.get("hidden_act", "silu")
    if given not in ACTIVATIONS:
        raise InvalidConfig(f"the activation {given!r} cannot be expressed; known: {', '.join(ACTIVATIONS)}")
    return SwiGLU(config["intermediate_size"], ACTIVATIONS[given])


def _decoder(config: Config, layers: tuple[LayerConfig, ...], tied: bool) -> ArchConfig:
    return ArchConfig(
        config["hidden_size"], config["vocab_size"], layers, tie_embeddings=config.get("tie_word_embeddings", tied),
        norm_eps=config.get("rms_norm_eps", 1e-6), rope_theta=float(config.get("rope_theta") or 10_000.0),
    )  # fmt: skip


def _plain(qk_norm: bool, tied: bool, *left_out: str) -> Callable[[Config], Shape]:
    """One attention and one feed-forward in all layers."""

    def read(config: Config) -> Shape:
        attention: Gqa = _heads(config, qk_norm)
        if (window := config.get("sliding_window")) and config.get("use_sliding_window", True):
            attention = SlidingWindow(
                attention.num_heads, attention.num_kv_heads, attention.head_dim, qk_norm=qk_norm, window=window
            )
        layer = LayerConfig(attention, _feed_forward(config))
        notes = [*left_out, *(["biases of attention are left out"] if config.get("attention_bias") else [])]
        return _decoder(config, (layer,) * config["num_hidden_layers"], tied), notes

    return read


def gemma3(config: Config) -> Shape:
    """Sliding windows with a rotary base of their own, sandwich norms, scaled embeddings: as the preset gemma3_1b."""
    full, ffn, depth = _heads(config, qk_norm=True), _feed_forward(config), config["num_hidden_layers"]
    local = SlidingWindow(
        full.num_heads, full.num_kv_heads, full.head_dim, rope_theta=float(config.get("rope_local_base_freq", 1e4)),
        window=config["sliding_window"],
    )  # fmt: skip
    pattern = config.get("sliding_window_pattern") or config.get("_sliding_window_pattern") or 6
    kinds = config.get("layer_types") or [
        "full_attention" if (index + 1) % pattern == 0 else "sliding_attention" for index in range(depth)
    ]
    layers = tuple(LayerConfig(full if kind == "full_attention" else local, ffn) for kind in kinds)
    arch = _decoder({"rope_theta": 1e6, **config}, layers, tied=True)
    multiplier = math.sqrt(config["hidden_size"])
    left_out = "norms scale by w instead of 1 + w, and attention by head_dim, neither of which takes time"
    return replace(arch, sandwich_norm=True, embedding_multiplier=multiplier), [left_out]


READERS: dict[str, Callable[[Config], Shape]] = {
    "llama": _plain(False, False),
    "mistral": _plain(False, False),
    "qwen2": _plain(False, False, "biases of Q, K and V are left out"),
    "qwen3": _plain(True, False),
    "smollm3": _plain(False, True, "every layer has rotary positions (SmolLM3 leaves some without)"),
    "gemma3_text": gemma3,
}
