"""The Hugging Face configuration: an ``ArchConfig`` under ``arch``, plus fields for generation and tokenizers."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

from search_space.arch import ArchConfig


class HilnasConfig(PreTrainedConfig):
    model_type = "hilnas"
    attribute_map = {"num_hidden_layers": "depth", "hidden_size": "d_model"}

    def __init__(self, arch: dict[str, Any] | None = None, **kwargs: Any) -> None:
        self.arch = arch or _smallest().to_dict()
        built = ArchConfig.from_dict(self.arch)
        self.vocab_size = built.vocab_size
        self.depth = built.depth
        self.d_model = built.d_model
        self.initializer_range = kwargs.pop("initializer_range", 0.02)
        self.max_position_embeddings = kwargs.pop("max_position_embeddings", 131_072)
        self.use_cache = kwargs.pop("use_cache", True)
        kwargs["tie_word_embeddings"] = built.tie_embeddings
        super().__init__(**kwargs)

    @classmethod
    def from_arch(cls, arch: ArchConfig, **kwargs: Any) -> HilnasConfig:
        return cls(arch=arch.to_dict(), **kwargs)

    def to_arch(self) -> ArchConfig:
        return ArchConfig.from_dict(self.arch)


def _smallest() -> ArchConfig:
    from search_space.presets import debug_size, lfm2_350m

    return debug_size(lfm2_350m(), depth=2)
