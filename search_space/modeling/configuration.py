"""The Hugging Face configuration: an ``ArchConfig`` under ``arch``, plus fields for generation and tokenizers."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

from search_space.arch import ArchConfig


class HilnasConfig(PreTrainedConfig):
    """``arch`` is the one place of every size: ``vocab_size``, ``depth`` and ``d_model`` are read from it, and setting
    ``vocab_size`` (as ``resize_token_embeddings`` does) changes it."""

    model_type = "hilnas"
    attribute_map = {"num_hidden_layers": "depth", "hidden_size": "d_model"}

    def __init__(self, arch: dict[str, Any] | None = None, **kwargs: Any) -> None:
        self.arch = arch or _smallest().to_dict()
        built = ArchConfig.from_dict(self.arch)
        for stored in ("depth", "d_model", "num_hidden_layers", "hidden_size"):
            kwargs.pop(stored, None)
        self.initializer_range = kwargs.pop("initializer_range", 0.02)
        self.max_position_embeddings = kwargs.pop("max_position_embeddings", 131_072)
        self.use_cache = kwargs.pop("use_cache", True)
        kwargs["tie_word_embeddings"] = built.tie_embeddings
        super().__init__(**kwargs)

    @property
    def vocab_size(self) -> int:
        return int(self.arch["vocab_size"])

    @vocab_size.setter
    def vocab_size(self, size: int) -> None:
        self.arch = {**self.arch, "vocab_size": int(size)}

    @property
    def depth(self) -> int:
        return len(self.arch["layers"])

    @property
    def d_model(self) -> int:
        return int(self.arch["d_model"])

    def to_dict(self) -> dict[str, Any]:
        """With the sizes, for tools that read the file alone."""
        sizes = {"vocab_size": self.vocab_size, "depth": self.depth, "d_model": self.d_model}
        return {**super().to_dict(), **sizes}

    @classmethod
    def from_arch(cls, arch: ArchConfig, **kwargs: Any) -> HilnasConfig:
        return cls(arch=arch.to_dict(), **kwargs)

    def to_arch(self) -> ArchConfig:
        return ArchConfig.from_dict(self.arch)


def _smallest() -> ArchConfig:
    from search_space.presets import debug_size, lfm2_350m

    return debug_size(lfm2_350m(), depth=2)
