"""The candidate as a Hugging Face model. Trains in parallel form; decodes with ``HilnasCache`` to the same numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.modeling.cache import HilnasCache
from search_space.modeling.configuration import HilnasConfig
from search_space.modeling.layers import MixerModule, RMSNorm, Sequence
from search_space.rope import Rope


def activation(name: str) -> nn.Module:
    return nn.SiLU() if name == "silu" else nn.GELU(approximate="tanh")


class FeedForward(nn.Module):
    """w2(act(w1 x) * w3 x)."""

    def __init__(self, config: SwiGLU, d_model: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(d_model, config.width, bias=False)
        self.w3 = nn.Linear(d_model, config.width, bias=False)
        self.w2 = nn.Linear(config.width, d_model, bias=False)
        self.activation = activation(config.activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(self.activation(self.w1(x)) * self.w3(x))


class Layer(nn.Module):
    """Residual mixer, residual feed-forward; either may be absent."""

    def __init__(self, config: LayerConfig, arch: ArchConfig) -> None:
        super().__init__()
        norm = lambda: RMSNorm(arch.d_model, arch.norm_eps)  # noqa: E731
        self.mixer = _mixer(config, arch)
        self.ffn = FeedForward(config.ffn, arch.d_model) if config.ffn else None
        self.mixer_norm = norm() if self.mixer is not None else None
        self.ffn_norm = norm() if self.ffn is not None else None
        self.mixer_post_norm = norm() if arch.sandwich_norm and self.mixer is not None else None
        self.ffn_post_norm = norm() if arch.sandwich_norm and self.ffn is not None else None

    def forward(self, x: Tensor, sequence: Sequence, cache: HilnasCache | None, index: int) -> Tensor:
        if self.mixer is not None:
            mixed = self.mixer(self.mixer_norm(x), sequence, cache, index)  # type: ignore[misc]
            x = x + (self.mixer_post_norm(mixed) if self.mixer_post_norm else mixed)
        if self.ffn is not None:
            fed = self.ffn(self.ffn_norm(x))  # type: ignore[misc]
            x = x + (self.ffn_post_norm(fed) if self.ffn_post_norm else fed)
        return x


def _mixer(config: LayerConfig, arch: ArchConfig) -> nn.Module | None:
    """The trainable module of a layer's mixer, or None."""
    if config.mixer.identity:
        return None
    rope = Rope(arch.rope_theta, arch.yarn, arch.llama3)
    return config.mixer.module_class()(config.mixer, arch.d_model, arch.norm_eps, rope)


class HilnasPreTrainedModel(PreTrainedModel):
    config_class = HilnasConfig
    base_model_prefix = "model"
    _no_split_modules = ["Layer"]
    supports_gradient_checkpointing = False
    _supports_sdpa = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        elif isinstance(module, RMSNorm):
            nn.init.ones_(module.weight)
        elif isinstance(module, MixerModule):
            module.init_own_parameters()


class HilnasModel(HilnasPreTrainedModel):
    """input_ids [B, T] -> hidden states [B, T, D] after the final norm."""

    def __init__(self, config: HilnasConfig) -> None:
        super().__init__(config)
        arch = config.to_arch()
        self.embedding_multiplier = arch.embedding_multiplier
        self.embed_tokens = nn.Embedding(arch.vocab_size, arch.d_model)
        self.layers = nn.ModuleList(Layer(layer, arch) for layer in arch.layers)
        self.norm = RMSNorm(arch.d_model, arch.norm_eps)
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embed_tokens

    def set_input_embeddings(self, value: nn.Embedding) -> None:  # type: ignore[override]
        self.embed_tokens = value

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: HilnasCache | None = None,
        inputs_embeds: Tensor | None = None,
        seq_idx: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        x = x * self.embedding_multiplier
        sequence = _sequence(x, attention_mask, position_ids, past_key_values, seq_idx)
        for index, layer in enumerate(self.layers):
            x = layer(x, sequence, past_key_values, index)
        if past_key_values is not None:
            past_key_values.advance(x.shape[1])
        return self.norm(x)


class HilnasForCausalLM(HilnasPreTrainedModel, GenerationMixin):
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: HilnasConfig) -> None:
        super().__init__(config)
        self.model = HilnasModel(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: HilnasCache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        seq_idx: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits [B, T or logits_to_keep, V]; ``seq_idx`` [B, T] numbers packed documents."""
        caching = (self.config.use_cache if use_cache is None else use_cache) and seq_idx is None
        if caching and not self.training and not isinstance(past_key_values, HilnasCache):
            past_key_values = HilnasCache()
        elif not caching:
            past_key_values = None
        hidden = self.model(input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, seq_idx=seq_idx)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(hidden[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=past_key_values)  # type: ignore[arg-type]

    def _prepare_cache_for_generation(  # type: ignore[override]
        self, generation_config: Any, model_kwargs: dict[str, Any], *how: Any, **__: Any
    ) -> None:
        """Stock caches do not support conv-only nets, so generation always starts with ours.

        Raises InvalidConfig for assisted decoding, which takes rejected tokens out of the cache again.
        """
        if any(getattr(one, "value", "") == "assisted_generation" for one in how):
            raise InvalidConfig(
                "the states of convolutions cannot give tokens back, so drafts cannot be rejected: leave out"
                " assistant_model and prompt_lookup_num_tokens"
            )
        if generation_config.use_cache is not False and model_kwargs.get("past_key_values") is None:
            model_kwargs["past_key_values"] = HilnasCache()


def _sequence(
    x: Tensor, mask: Tensor | None, positions: Tensor | None, cache: HilnasCache | None, segments: Tensor | None
) -> Sequence:
    past, num_tokens = (cache.num_tokens if cache is not None else 0), x.shape[1]
    valid = mask.bool() if mask is not None and not bool(mask.all()) else None
    if positions is None:
        if valid is not None:
            positions = (valid.long().cumsum(-1) - 1).clamp(min=0)[:, -num_tokens:]
        else:
            positions = torch.arange(past, past + num_tokens, device=x.device).expand(x.shape[0], -1)
    return Sequence(positions.expand(x.shape[0], -1), valid, segments)


def build_model(arch: ArchConfig, seed: int | None = None, dtype: torch.dtype = torch.float32) -> HilnasForCausalLM:
    """A randomly initialized model of ``arch``; the same seed gives the same weights."""
    if seed is not None:
        torch.manual_seed(seed)
    return HilnasForCausalLM(HilnasConfig.from_arch(arch)).to(dtype)  # type: ignore[arg-type]


AutoConfig.register("hilnas", HilnasConfig, exist_ok=True)
AutoModelForCausalLM.register(HilnasConfig, HilnasForCausalLM, exist_ok=True)
