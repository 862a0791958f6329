"""Uniform gated-short-conv + GQA layouts to and from transformers' ``Lfm2ForCausalLM``, with equal logits."""

from __future__ import annotations

import re
from typing import Any, TypeVar

from torch import Tensor
from transformers import Lfm2Config, Lfm2ForCausalLM, PreTrainedModel

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from search_space.modeling.configuration import HilnasConfig
from search_space.modeling.model import HilnasForCausalLM
from search_space.rope import Yarn

Model = TypeVar("Model", bound=PreTrainedModel)
_NAMES = (  # ours -> Lfm2's, per layer
    (r"mixer\.in_proj", "conv.in_proj"),
    (r"mixer\.out_proj", "conv.out_proj"),
    (r"mixer\.conv_weight", "conv.conv.weight"),
    (r"mixer\.q_proj", "self_attn.q_proj"),
    (r"mixer\.k_proj", "self_attn.k_proj"),
    (r"mixer\.v_proj", "self_attn.v_proj"),
    (r"mixer\.o_proj", "self_attn.out_proj"),
    (r"mixer\.q_norm", "self_attn.q_layernorm"),
    (r"mixer\.k_norm", "self_attn.k_layernorm"),
    (r"mixer_norm", "operator_norm"),
    (r"ffn\.(w[123])", r"feed_forward.\1"),
)


def lfm2_config(arch: ArchConfig) -> Lfm2Config:
    """Raises InvalidConfig with the first setting that Lfm2 does not support (it has only global sizes)."""
    conv = {layer.mixer for layer in arch.layers if isinstance(layer.mixer, GatedShortConv)}
    attention = {layer.mixer for layer in arch.layers if type(layer.mixer) is Gqa}
    others = {layer.mixer.kind for layer in arch.layers} - {"gated_short_conv", "gqa"}
    ffns = {layer.ffn for layer in arch.layers}
    head = next(iter(attention), Gqa(max(1, arch.d_model // 64), 1, 64))
    for found, sentence in (
        (others, f"Lfm2 has no operator {', '.join(sorted(others))}"),
        (len(conv) > 1, "Lfm2 has one convolution kernel for all layers"),
        (len(attention) > 1, "Lfm2 has one attention shape for all layers"),
        (len(ffns) > 1 or None in ffns, "Lfm2 has one feed-forward width for all layers"),
        (arch.sandwich_norm, "Lfm2 has no sandwich norms"),
        (arch.embedding_multiplier != 1.0, "Lfm2 does not scale embeddings"),
        (head.gate or (attention and not head.qk_norm) or head.rope_theta, "Lfm2's attention has QK norm and no gate"),
        (attention and head.num_heads * head.head_dim != arch.d_model, "Lfm2's heads must fill d_model"),
    ):
        if found:
            raise InvalidConfig(f"cannot be written as Lfm2ForCausalLM: {sentence}")
    ffn = next(iter(ffns))
    assert ffn is not None
    return Lfm2Config(
        vocab_size=arch.vocab_size, hidden_size=arch.d_model, intermediate_size=ffn.width,
        block_auto_adjust_ff_dim=False, num_hidden_layers=arch.depth, num_attention_heads=head.num_heads,
        num_key_value_heads=head.num_kv_heads, conv_L_cache=next(iter(conv), GatedShortConv()).kernel, conv_bias=False,
        norm_eps=arch.norm_eps, rope_parameters=_rope_parameters(arch),
        tie_word_embeddings=arch.tie_embeddings,
        layer_types=["conv" if layer.mixer.kind == "gated_short_conv" else "full_attention" for layer in arch.layers],
    )  # fmt: skip


def to_lfm2(model: HilnasForCausalLM) -> Lfm2ForCausalLM:
    """A stock model with the same weights, which vLLM, llama.cpp and other tools can load."""
    config = lfm2_config(model.config.to_arch())
    state = {_to_lfm2_name(name): value for name, value in model.state_dict().items()}
    state = {name: value.unsqueeze(1) if name.endswith("conv.conv.weight") else value for name, value in state.items()}
    return _loaded(Lfm2ForCausalLM(config), state)


def from_lfm2(model: Lfm2ForCausalLM) -> HilnasForCausalLM:
    arch = arch_of_lfm2(model.config)
    ours = HilnasForCausalLM(HilnasConfig.from_arch(arch))
    theirs = model.state_dict()
    state = {}
    for name in ours.state_dict():
        value = theirs[_to_lfm2_name(name)]
        state[name] = value.squeeze(1) if name.endswith("conv_weight") else value
    return _loaded(ours, state)


def arch_of_lfm2(config: Lfm2Config) -> ArchConfig:
    width = config.intermediate_size
    if getattr(config, "block_auto_adjust_ff_dim", False):
        width = int(2 * width / 3 * (config.block_ffn_dim_multiplier or 1.0))
        width = -(-width // config.block_multiple_of) * config.block_multiple_of
    heads = config.num_attention_heads
    attention = Gqa(heads, config.num_key_value_heads, config.hidden_size // heads)
    conv, ffn = GatedShortConv(config.conv_L_cache), SwiGLU(width)
    assert config.layer_types is not None and config.rope_parameters is not None
    layers = tuple(LayerConfig(conv if kind == "conv" else attention, ffn) for kind in config.layer_types)
    theta = float(config.rope_parameters["rope_theta"] or 1e6)
    return ArchConfig(
        config.hidden_size, config.vocab_size, layers, tie_embeddings=config.tie_word_embeddings,
        norm_eps=config.norm_eps, rope_theta=theta, yarn=_yarn_of(dict(config.rope_parameters)),
    )  # fmt: skip


def _rope_parameters(arch: ArchConfig) -> dict[str, Any]:
    if arch.yarn is None:
        return {"rope_type": "default", "rope_theta": arch.rope_theta}
    return {
        "rope_type": "yarn", "rope_theta": arch.rope_theta, "factor": arch.yarn.factor,
        "original_max_position_embeddings": arch.yarn.original_length, "beta_fast": arch.yarn.beta_fast,
        "beta_slow": arch.yarn.beta_slow,
    }  # fmt: skip


def _yarn_of(parameters: dict[str, Any]) -> Yarn | None:
    if parameters.get("rope_type", "default") == "default":
        return None
    if parameters["rope_type"] != "yarn":
        raise InvalidConfig(f"unknown rope type {parameters['rope_type']!r}; known: default, yarn")
    betas = {key: parameters[key] for key in ("beta_fast", "beta_slow") if parameters.get(key)}
    return Yarn(parameters["factor"], parameters["original_max_position_embeddings"], **betas)


def _to_lfm2_name(name: str) -> str:
    if name == "model.norm.weight":
        return "model.embedding_norm.weight"
    for ours, theirs in _NAMES:
        name = re.sub(ours, theirs, name)
    return name.replace("conv.conv.weight.weight", "conv.conv.weight")


def _loaded(model: Model, state: dict[str, Tensor]) -> Model:
    dtype = next(iter(state.values())).dtype
    model.to(dtype=dtype)  # type: ignore[call-arg]
    model.load_state_dict(state, strict=True)
    model.tie_weights()
    return model.eval()
