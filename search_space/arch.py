"""``ArchConfig``: a complete decoder as frozen plain data, with one canonical text and one hash."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from typing import Any

from foundation.errors import InvalidConfig
from foundation.typed_fields import build, check_types, quoted
from search_space.mixers import MixerConfig, mixer_from_dict
from search_space.mixers.base import Linear, require_positive
from search_space.rope import Llama3Scaling, Yarn, llama3_from, yarn_from

ACTIVATIONS = ("silu", "gelu_tanh")


@dataclass(frozen=True)
class SwiGLU:
    """Gated feed-forward ``w2(act(w1 x) * w3 x)`` of inner ``width`` (Shazeer 2020). ``gelu_tanh`` is Gemma's
    variant."""

    width: int
    activation: str = "silu"

    def validate(self) -> None:
        check_types("swiglu", self)
        require_positive("swiglu", width=self.width)
        if self.activation not in ACTIVATIONS:
            raise InvalidConfig(f"swiglu: unknown activation {self.activation!r}; known: {', '.join(ACTIVATIONS)}")

    def linears(self, d_model: int) -> tuple[Linear, ...]:
        return (Linear(d_model, self.width), Linear(d_model, self.width), Linear(self.width, d_model))

    @property
    def label(self) -> str:
        return f"swiglu({self.width})"


@dataclass(frozen=True)
class LayerConfig:
    """One residual layer: a mixer, then a feed-forward (None for no feed-forward)."""

    mixer: MixerConfig
    ffn: SwiGLU | None

    def to_dict(self) -> dict[str, Any]:
        return {"mixer": self.mixer.to_dict(), "ffn": asdict(self.ffn) if self.ffn else None}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LayerConfig:
        reject_unknown("layer", data, ("mixer", "ffn"))
        if not isinstance(data.get("mixer"), dict):
            raise InvalidConfig(f"'mixer' must be an object with its `kind`, got {quoted(data.get('mixer'))}")
        ffn = data.get("ffn")
        return cls(mixer_from_dict(data["mixer"]), None if ffn is None else build(SwiGLU, "ffn", ffn))


@dataclass(frozen=True)
class ArchConfig:
    """A decoder: embedding, layers, final norm, head. All norms are RMS norms; no biases.

    ``sandwich_norm`` adds a norm after the mixer and after the feed-forward, before each residual sum (Gemma 2/3,
    LFM3). ``embedding_multiplier`` scales the embedding output (Gemma: sqrt(d_model)); it changes no sizes. ``yarn``
    stretches the positions of attention without a window, ``llama3`` (Llama 3.1 and 3.2) those of all attention.
    """

    d_model: int
    vocab_size: int
    layers: tuple[LayerConfig, ...]
    tie_embeddings: bool = True
    sandwich_norm: bool = False
    norm_eps: float = 1e-5
    rope_theta: float = 1_000_000.0
    embedding_multiplier: float = 1.0
    yarn: Yarn | None = None
    llama3: Llama3Scaling | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "yarn", yarn_from(self.yarn))
        object.__setattr__(self, "llama3", llama3_from(self.llama3))
        self.validate()

    def validate(self) -> None:
        check_types("architecture", self)
        require_positive("architecture", d_model=self.d_model, vocab_size=self.vocab_size)
        self._check_numbers()
        if self.d_model % 32:
            raise InvalidConfig(
                f"d_model must be a multiple of 32 (4-bit weights come in groups of 32), got {self.d_model}"
                f" (nearest: {max(32, round(self.d_model / 32) * 32)})"
            )
        if self.yarn and self.llama3:
            raise InvalidConfig("an architecture stretches positions by yarn or by llama3, got both; leave one out")
        if not self.layers:
            raise InvalidConfig("an architecture needs at least one layer, got none")
        for index, layer in enumerate(self.layers):
            try:
                check_types(layer.mixer.kind, layer.mixer)
                layer.mixer.validate(self.d_model)
                if layer.ffn:
                    layer.ffn.validate()
            except InvalidConfig as error:
                raise InvalidConfig(f"layer {index}: {error}") from None

    def _check_numbers(self) -> None:
        if not 0 < self.norm_eps <= 1:
            raise InvalidConfig(f"architecture: norm_eps must be above 0 and at most 1, got {self.norm_eps:g}")
        if self.rope_theta < 1 or (self.yarn and self.rope_theta == 1):
            raise InvalidConfig(f"architecture: rope_theta must be above 1, got {self.rope_theta:g}")
        if self.embedding_multiplier <= 0:
            given = self.embedding_multiplier
            raise InvalidConfig(f"architecture: embedding_multiplier must be above 0, got {given:g}")

    @property
    def depth(self) -> int:
        return len(self.layers)

    def to_dict(self) -> dict[str, Any]:
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("layers", "yarn", "llama3")}
        stretches = {"yarn": self.yarn, "llama3": self.llama3}
        stretched = {name: asdict(stretch) for name, stretch in stretches.items() if stretch}
        return {**plain, **stretched, "layers": [layer.to_dict() for layer in self.layers]}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ArchConfig:
        """Raises InvalidConfig with the first invalid field."""
        reject_unknown("architecture", data, tuple(f.name for f in fields(cls)))
        missing = [name for name in ("d_model", "vocab_size", "layers") if name not in data]
        if missing:
            raise InvalidConfig(f"architecture: {missing[0]!r} is missing")
        if not isinstance(data["layers"], list | tuple):
            raise InvalidConfig(f"architecture: layers must be a list of layers, got {quoted(data['layers'])}")
        return cls(**{**data, "layers": tuple(_layer(index, one) for index, one in enumerate(data["layers"]))})

    def canonical_json(self) -> str:
        """The canonical text of this architecture: sorted keys, no spaces, numbers as Python prints them."""
        return json.dumps(_floats_unified(self.to_dict()), sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """sha256 of the canonical text; equal architectures have equal digests in every process."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()

    @property
    def label(self) -> str:
        """A one-line summary, e.g. ``16L d1024 10 gated_short_conv 6 gqa``."""
        kinds = Counter(layer.mixer.kind for layer in self.layers)
        return f"{self.depth}L d{self.d_model} " + " ".join(f"{count} {kind}" for kind, count in kinds.items())

    @property
    def layout(self) -> str:
        """The layer string with runs folded, e.g. ``2 conv, gqa, 3 conv``."""
        runs = groupby(layer.mixer.kind for layer in self.layers)
        return ", ".join(f"{n} {kind}" if n > 1 else kind for kind, n in ((k, len(list(g))) for k, g in runs))


def _layer(index: int, data: Any) -> LayerConfig:
    try:
        return LayerConfig.from_dict(data)
    except InvalidConfig as error:
        raise InvalidConfig(f"layer {index}: {error}") from None


def reject_unknown(owner: str, data: dict[str, Any], known: tuple[str, ...]) -> None:
    """Raises InvalidConfig unless ``data`` is an object with ``known`` fields only."""
    if not isinstance(data, dict):
        raise InvalidConfig(f"{owner}: expected an object with {', '.join(known)}, got {quoted(data)}")
    unknown = sorted(str(key) for key in set(data) - set(known))
    if unknown:
        raise InvalidConfig(f"{owner}: unknown field {unknown[0]!r}; known fields: {', '.join(known)}")


def _floats_unified(value: Any) -> Any:
    """1 and 1.0 are one number in the canonical text."""
    if isinstance(value, dict):
        return {key: _floats_unified(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_floats_unified(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
