"""Lfm2: gated short convolutions and attention with QK norm, one shape of each."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import Lfm2Config, Lfm2ForCausalLM, PreTrainedConfig

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from search_space.modeling.families.base import FAMILIES, Family, from_stock, per_layer, refuse, to_stock
from search_space.modeling.families.llama import head_width
from search_space.modeling.families.positions import own_theta, read_positions, write_positions
from search_space.modeling.model import HilnasForCausalLM

CONV = {
    "mixer.in_proj.weight": "conv.in_proj.weight", "mixer.out_proj.weight": "conv.out_proj.weight",
    "mixer.conv_weight": "conv.conv.weight",
}  # fmt: skip
ATTENTION = {
    "mixer.q_proj.weight": "self_attn.q_proj.weight", "mixer.k_proj.weight": "self_attn.k_proj.weight",
    "mixer.v_proj.weight": "self_attn.v_proj.weight", "mixer.o_proj.weight": "self_attn.out_proj.weight",
    "mixer.q_norm.weight": "self_attn.q_layernorm.weight", "mixer.k_norm.weight": "self_attn.k_layernorm.weight",
}  # fmt: skip
REST = {
    "mixer_norm.weight": "operator_norm.weight",
    "ffn_norm.weight": "ffn_norm.weight",
    **{f"ffn.w{k}.weight": f"feed_forward.w{k}.weight" for k in (1, 2, 3)},
}
ENDS = {"model.embed_tokens.weight": "model.embed_tokens.weight", "model.norm.weight": "model.embedding_norm.weight"}
FFN_FIELDS = ("block_auto_adjust_ff_dim", "block_ffn_dim_multiplier", "block_multiple_of")


class Lfm2(Family):
    model_type, config_class, model_class = "lfm2", Lfm2Config, Lfm2ForCausalLM
    reads = frozenset({
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "norm_eps",
        "num_key_value_heads", "head_dim", "conv_L_cache", "tie_word_embeddings", "rope_parameters", "layer_types",
        "full_attn_idxs", *FFN_FIELDS,
    })  # fmt: skip
    # of LFM2's published files: transformers' class does not read them
    inert = frozenset({
        "block_dim", "block_ff_dim", "block_mlp_init_scale", "block_norm_eps", "block_out_init_scale",
        "block_use_swiglu", "block_use_xavier_init", "conv_dim", "conv_dim_out", "conv_use_xavier_init", "num_heads",
        "rope_scaling", "theta", "tie_embedding", "use_pos_enc",
    })  # fmt: skip

    def arch_of(self, config: Any) -> ArchConfig:
        attention = Gqa(config.num_attention_heads, config.num_key_value_heads, head_width(config))
        mixers = {"conv": GatedShortConv(config.conv_L_cache), "full_attention": attention}
        unknown = sorted(set(config.layer_types) - set(mixers))
        if unknown:
            raise InvalidConfig(f"lfm2: unknown layer type {unknown[0]!r}; known: {', '.join(mixers)}")
        ffn = SwiGLU(_width(config))
        return ArchConfig(
            config.hidden_size, config.vocab_size, tuple(LayerConfig(mixers[kind], ffn) for kind in config.layer_types),
            tie_embeddings=config.tie_word_embeddings, norm_eps=config.norm_eps, **read_positions(config),
        )  # fmt: skip

    def config_of(self, arch: ArchConfig) -> PreTrainedConfig:
        conv = {layer.mixer for layer in arch.layers if isinstance(layer.mixer, GatedShortConv)}
        attention = {own_theta(layer.mixer, arch) for layer in arch.layers if type(layer.mixer) is Gqa}
        others = {layer.mixer.kind for layer in arch.layers} - {"gated_short_conv", "gqa"}
        ffns = {layer.ffn for layer in arch.layers}
        head, ffn = next(iter(attention), Gqa(max(1, arch.d_model // 64), 1, 64)), next(iter(ffns))
        refuse("Lfm2ForCausalLM", (
            (others, f"Lfm2 has no operator {', '.join(sorted(others))}"),
            (len(conv) > 1, "Lfm2 has one convolution kernel for all layers"),
            (len(attention) > 1, "Lfm2 has one attention shape for all layers"),
            (len(ffns) > 1 or ffn is None, "Lfm2 has one feed-forward width for all layers"),
            (ffn and ffn.activation != "silu", "Lfm2's feed-forward has SiLU"),
            (arch.sandwich_norm, "Lfm2 has no sandwich norms"),
            (arch.embedding_multiplier != 1.0, "Lfm2 does not scale embeddings"),
            (attention and (head.gate or not head.qk_norm or head.rope_theta),
             "Lfm2's attention has QK norm, no gate and the architecture's rotary base"),
            (attention and head.num_heads * head.head_dim != arch.d_model, "Lfm2's heads must fill d_model"),
        ))  # fmt: skip
        assert ffn is not None
        return Lfm2Config(
            vocab_size=arch.vocab_size, hidden_size=arch.d_model, intermediate_size=ffn.width,
            block_auto_adjust_ff_dim=False, num_hidden_layers=arch.depth, num_attention_heads=head.num_heads,
            num_key_value_heads=head.num_kv_heads, conv_L_cache=next(iter(conv), GatedShortConv()).kernel,
            conv_bias=False, norm_eps=arch.norm_eps, rope_parameters=write_positions(arch),
            tie_word_embeddings=arch.tie_embeddings,
            layer_types=["conv" if isinstance(x.mixer, GatedShortConv) else "full_attention" for x in arch.layers],
        )  # fmt: skip

    def names(self, arch: ArchConfig) -> dict[str, str]:
        found = dict(ENDS)
        for index, layer in enumerate(arch.layers):
            mixer = CONV if isinstance(layer.mixer, GatedShortConv) else ATTENTION
            found |= per_layer(index, {**mixer, **REST})
        return found

    def reshaped(self, name: str, value: Tensor, to_ours: bool) -> Tensor:
        """A depthwise kernel is [D, 1, K] there and [D, K] here."""
        if not name.endswith("mixer.conv_weight"):
            return value
        return value.squeeze(1) if to_ours else value.unsqueeze(1)


def _width(config: Any) -> int:
    width = int(config.intermediate_size)
    if config.block_auto_adjust_ff_dim:
        width = int(2 * width / 3)
        if config.block_ffn_dim_multiplier is not None:
            width = int(config.block_ffn_dim_multiplier * width)
            width = -(-width // config.block_multiple_of) * config.block_multiple_of
    return width


FAMILIES.add("lfm2", Lfm2())


def to_lfm2(model: HilnasForCausalLM) -> Any:
    """A stock model with the same weights, which vLLM, llama.cpp and other tools can load."""
    return to_stock(model, FAMILIES["lfm2"])


def from_lfm2(model: Any) -> HilnasForCausalLM:
    return from_stock(model)
