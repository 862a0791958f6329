"""What a layer may be: mixers and feed-forwards, written out or as templates over a space's shared values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from foundation.errors import InvalidConfig
from search_space.arch import SwiGLU
from search_space.mixers import MIXERS, MixerConfig, mixer_from_dict

Shared = Mapping[str, Any]  # values that all layers of a candidate share: d_model, head_dim, depth, ...
AUTO = "auto"  # num_heads: as many heads as fill d_model
NO_FFN = "0"
FFN_MULTIPLE = 32  # of a width that is given as a ratio: 4-bit weights come in groups of 32


@dataclass(frozen=True)
class MixerTemplate:
    """A mixer whose other options come from the shared values: ``head_dim`` where the space shares one, ``num_heads:
    auto`` from ``d_model``. ``when`` limits it to candidates with these shared values."""

    kind: str
    options: tuple[tuple[str, Any], ...] = ()
    when: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    @property
    def label(self) -> str:
        given = ",".join(f"{name}={value}" for name, value in self.options)
        return f"{self.kind}({given})" if given else self.kind

    def allowed(self, shared: Shared) -> bool:
        return all(shared[name] in values for name, values in self.when)

    def build(self, shared: Shared) -> MixerConfig:
        known = {field.name for field in fields(MIXERS.get_or_raise(self.kind))}
        options = {name: value for name, value in shared.items() if name in known} | dict(self.options)
        if options.get("num_heads") == AUTO:
            options["num_heads"] = _heads(self.kind, shared["d_model"], options.get("head_dim"))
        return mixer_from_dict({"kind": self.kind, **options})


@dataclass(frozen=True)
class FfnTemplate:
    """A feed-forward of ``ratio`` times ``d_model``, rounded to 32, or of a fixed ``width``; both None for none."""

    width: int | None = None
    ratio: float | None = None
    activation: str = "silu"
    when: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    @property
    def label(self) -> str:
        size = f"{self.ratio:g}x" if self.ratio else str(self.width or NO_FFN)
        return size if self.activation == "silu" else f"{size},{self.activation}"

    def allowed(self, shared: Shared) -> bool:
        return all(shared[name] in values for name, values in self.when)

    def build(self, shared: Shared) -> SwiGLU | None:
        if self.ratio:
            rounded = max(1, round(self.ratio * shared["d_model"] / FFN_MULTIPLE)) * FFN_MULTIPLE
            return SwiGLU(rounded, self.activation)
        return SwiGLU(self.width, self.activation) if self.width else None


Mixer = MixerConfig | MixerTemplate
Ffn = SwiGLU | FfnTemplate | None


@dataclass(frozen=True)
class LayerChoices:
    """The mixers and feed-forwards that one layer may have. A choice is known by its label, which is unique."""

    mixers: tuple[Mixer, ...]
    ffns: tuple[Ffn, ...]

    def __post_init__(self) -> None:
        for what, labels in (("mixer", self.mixer_labels), ("feed-forward", self.ffn_labels)):
            if not labels:
                raise InvalidConfig(f"a layer needs at least one {what} to choose from, got none")
            twice = sorted({label for label in labels if labels.count(label) > 1})
            if twice:
                raise InvalidConfig(f"two {what} choices of a layer have the label {twice[0]!r}; give each once")

    @property
    def mixer_labels(self) -> tuple[str, ...]:
        return tuple(mixer.label for mixer in self.mixers)

    @property
    def ffn_labels(self) -> tuple[str, ...]:
        return tuple(ffn_label(ffn) for ffn in self.ffns)


def ffn_label(ffn: Ffn) -> str:
    """``2560`` or ``2560,gelu_tanh``; ``0`` for no feed-forward."""
    if ffn is None:
        return NO_FFN
    if isinstance(ffn, FfnTemplate):
        return ffn.label
    return str(ffn.width) if ffn.activation == "silu" else f"{ffn.width},{ffn.activation}"


def build_mixer(choice: Mixer, shared: Shared) -> MixerConfig:
    return choice.build(shared) if isinstance(choice, MixerTemplate) else choice


def build_ffn(choice: Ffn, shared: Shared) -> SwiGLU | None:
    return choice.build(shared) if isinstance(choice, FfnTemplate) else choice


def is_allowed(choice: Mixer | Ffn, shared: Shared) -> bool:
    return choice.allowed(shared) if isinstance(choice, MixerTemplate | FfnTemplate) else True


def _heads(kind: str, d_model: int, head_dim: int | None) -> int:
    if not head_dim or d_model % head_dim:
        raise InvalidConfig(
            f"{kind}: num_heads 'auto' needs a head_dim that divides d_model {d_model}, got {head_dim or 'none'}"
        )
    return d_model // head_dim
