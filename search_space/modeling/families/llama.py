"""Llama: SmolLM2, Llama 3.2 and others of the class ``LlamaForCausalLM``."""

from __future__ import annotations

from typing import Any

from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedConfig

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import Gqa
from search_space.modeling.families.base import FAMILIES, Family, per_layer, refuse, the_only
from search_space.modeling.families.positions import own_theta, read_positions, write_positions

ACTIVATIONS = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh"}  # transformers' name -> ours
ATTENTION = {f"mixer.{name}.weight": f"self_attn.{name}.weight" for name in ("q_proj", "k_proj", "v_proj", "o_proj")}
REST = {
    "mixer_norm.weight": "input_layernorm.weight", "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn.w1.weight": "mlp.gate_proj.weight", "ffn.w3.weight": "mlp.up_proj.weight",
    "ffn.w2.weight": "mlp.down_proj.weight",
}  # fmt: skip
ENDS = {"model.embed_tokens.weight": "model.embed_tokens.weight", "model.norm.weight": "model.norm.weight"}
READ = frozenset({
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "hidden_act", "rms_norm_eps", "tie_word_embeddings", "rope_parameters",
})  # fmt: skip


def feed_forward(config: Any) -> SwiGLU:
    if config.hidden_act not in ACTIVATIONS:
        raise InvalidConfig(
            f"{config.model_type}: unknown activation hidden_act={config.hidden_act!r}; known: {', '.join(ACTIVATIONS)}"
        )
    return SwiGLU(config.intermediate_size, ACTIVATIONS[config.hidden_act])


def head_width(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def shared_settings(config: Any) -> dict[str, Any]:
    """What an architecture takes from the fields that Llama and Qwen3 share."""
    ends = {"tie_embeddings": config.tie_word_embeddings, "norm_eps": config.rms_norm_eps}
    return {"d_model": config.hidden_size, "vocab_size": config.vocab_size, **ends, **read_positions(config)}


def written_settings(arch: ArchConfig, attention: Gqa, ffn: SwiGLU) -> dict[str, Any]:
    """Fields of a stock configuration of Llama or Qwen3."""
    theirs = {mine: name for name, mine in ACTIVATIONS.items()}
    return {
        "vocab_size": arch.vocab_size, "hidden_size": arch.d_model, "intermediate_size": ffn.width,
        "num_hidden_layers": arch.depth, "num_attention_heads": attention.num_heads,
        "num_key_value_heads": attention.num_kv_heads, "head_dim": attention.head_dim,
        "hidden_act": theirs[ffn.activation], "rms_norm_eps": arch.norm_eps, "tie_word_embeddings": arch.tie_embeddings,
        "rope_parameters": write_positions(arch),
    }  # fmt: skip


class Llama(Family):
    model_type, config_class, model_class = "llama", LlamaConfig, LlamaForCausalLM
    reads = READ
    # of SmolLM2's and Llama 3.2's published files: transformers' class does not read them
    inert = frozenset({"is_llama_config", "rope_interleaved", "rope_scaling", "transformers.js_config"})

    def arch_of(self, config: Any) -> ArchConfig:
        heads = config.num_attention_heads
        attention = Gqa(heads, config.num_key_value_heads or heads, head_width(config), qk_norm=False)
        layer = LayerConfig(attention, feed_forward(config))
        return ArchConfig(layers=(layer,) * config.num_hidden_layers, **shared_settings(config))

    def config_of(self, arch: ArchConfig) -> PreTrainedConfig:
        attention, ffn = the_only(own_theta(x.mixer, arch) for x in arch.layers), the_only(x.ffn for x in arch.layers)
        head = attention if type(attention) is Gqa else Gqa(qk_norm=False)
        refuse("LlamaForCausalLM", (
            (type(attention) is not Gqa, "it has one attention over the whole context for all layers"),
            (ffn is None, "it has one feed-forward width for all layers"),
            (head.qk_norm or head.gate, "its attention has no QK norm and no gate"),
            (head.rope_theta, "it has one rotary base, the architecture's"),
            (arch.sandwich_norm, "it has no sandwich norms"),
            (arch.embedding_multiplier != 1.0, "it does not scale embeddings"),
        ))  # fmt: skip
        return LlamaConfig(**written_settings(arch, head, ffn), bos_token_id=None, eos_token_id=None)

    def names(self, arch: ArchConfig) -> dict[str, str]:
        layers = (per_layer(index, {**ATTENTION, **REST}) for index in range(arch.depth))
        return ENDS | {mine: other for layer in layers for mine, other in layer.items()}


FAMILIES.add("llama", Llama())
