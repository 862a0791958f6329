"""Qwen3: attention with QK norm, over the whole context or a sliding window by layer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from transformers import PreTrainedConfig, Qwen3Config, Qwen3ForCausalLM

from search_space.arch import ArchConfig, LayerConfig
from search_space.mixers import Gqa, SlidingWindow
from search_space.modeling.families.base import FAMILIES, Family, per_layer, refuse, the_only
from search_space.modeling.families.llama import (
    ATTENTION,
    ENDS,
    READ,
    REST,
    feed_forward,
    head_width,
    shared_settings,
    written_settings,
)
from search_space.modeling.families.positions import own_theta

NORMS = {f"mixer.{name}.weight": f"self_attn.{name}.weight" for name in ("q_norm", "k_norm")}


class Qwen3(Family):
    model_type, config_class, model_class = "qwen3", Qwen3Config, Qwen3ForCausalLM
    reads = READ | {"use_sliding_window", "sliding_window", "max_window_layers", "layer_types"}
    inert = frozenset({"rope_scaling"})

    def arch_of(self, config: Any) -> ArchConfig:
        sizes = (config.num_attention_heads, config.num_key_value_heads, head_width(config))
        ffn = feed_forward(config)
        mixers = {"full_attention": Gqa(*sizes)}
        if config.sliding_window:
            mixers["sliding_attention"] = SlidingWindow(*sizes, window=config.sliding_window)
        layers = tuple(LayerConfig(mixers[kind], ffn) for kind in config.layer_types)
        return ArchConfig(layers=layers, **shared_settings(config))

    def config_of(self, arch: ArchConfig) -> PreTrainedConfig:
        mixers = [own_theta(layer.mixer, arch) for layer in arch.layers]
        attention, ffn = the_only(_whole(mixer) for mixer in mixers), the_only(layer.ffn for layer in arch.layers)
        windows = {mixer.window for mixer in mixers if isinstance(mixer, SlidingWindow)}
        refuse("Qwen3ForCausalLM", (
            (attention is None, "it has one attention shape for all layers"),
            (ffn is None, "it has one feed-forward width for all layers"),
            (len(windows) > 1, "it has one sliding window for all layers"),
            (windows and arch.yarn, "it stretches positions by YaRN in all layers, ours in those without a window"),
            (attention and (attention.gate or not attention.qk_norm), "its attention has QK norm and no gate"),
            (attention and attention.rope_theta, "it has one rotary base, the architecture's"),
            (arch.sandwich_norm, "it has no sandwich norms"),
            (arch.embedding_multiplier != 1.0, "it does not scale embeddings"),
        ))  # fmt: skip
        kinds = ["sliding_attention" if isinstance(mixer, SlidingWindow) else "full_attention" for mixer in mixers]
        return Qwen3Config(
            **written_settings(arch, attention, ffn), layer_types=kinds, use_sliding_window=bool(windows),
            sliding_window=next(iter(windows), None), max_window_layers=0,
        )  # fmt: skip

    def names(self, arch: ArchConfig) -> dict[str, str]:
        layers = (per_layer(index, {**ATTENTION, **NORMS, **REST}) for index in range(arch.depth))
        return ENDS | {mine: other for layer in layers for mine, other in layer.items()}


def _whole(mixer: Any) -> Gqa | None:
    """The same heads without a window; None for what is no attention."""
    if isinstance(mixer, SlidingWindow):
        kept = {name: getattr(mixer, name) for name in ("num_heads", "num_kv_heads", "head_dim", "qk_norm", "gate")}
        return Gqa(**kept, rope_theta=mixer.rope_theta)
    return replace(mixer) if type(mixer) is Gqa else None


FAMILIES.add("qwen3", Qwen3())
