"""The space around a parent: per layer the parent's own sublayers, and what may stand in for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa, MixerConfig, Skip, SlidingWindow
from search_space.parents import parent_arch
from search_space.space.choices import FFN_MULTIPLE, LayerChoices
from search_space.space.core import SearchSpace

WINDOWS, KERNELS, SHARES = (512,), (3, 7), (0.5, 0.25)


def around(
    parent: str, windows: Sequence[int] = WINDOWS, kernels: Sequence[int] = KERNELS, shares: Sequence[float] = SHARES
) -> SearchSpace:
    """A parent's layers with fewer key-value heads, windows, short convolutions, narrower feed-forwards, or none."""
    return around_arch(f"around {parent}", parent_arch(parent), windows, kernels, shares)


def around_arch(
    name: str, arch: ArchConfig, windows: Sequence[int] = WINDOWS, kernels: Sequence[int] = KERNELS,
    shares: Sequence[float] = SHARES,
) -> SearchSpace:  # fmt: skip
    if wrong := [share for share in shares if not 0 < share < 1]:
        raise InvalidConfig(f"{name}: shares of a feed-forward's width lie between 0 and 1, got {wrong[0]}")
    choices = tuple(
        LayerChoices(mixer_choices(layer.mixer, windows, kernels), ffn_choices(layer.ffn, shares))
        for layer in arch.layers
    )
    kept = {field.name: getattr(arch, field.name) for field in fields(arch)}
    options = {name: value for name, value in kept.items() if name not in ("layers", "d_model", "vocab_size")}
    stretched = ("yarn", "llama3")
    options = {name: value for name, value in options.items() if name not in stretched or value is not None}
    return SearchSpace(name, arch.d_model, arch.vocab_size, choices, options)


def mixer_choices(
    mixer: MixerConfig, windows: Sequence[int] = WINDOWS, kernels: Sequence[int] = KERNELS
) -> tuple[MixerConfig, ...]:
    """The parent's mixer first, then attention with fewer key-value heads, windows, convolutions, none."""
    if mixer.identity:
        return (mixer,)
    found: list[MixerConfig] = [mixer]
    if isinstance(mixer, Gqa):
        found += [replace(mixer, num_kv_heads=count) for count in _fewer_heads(mixer)]
        narrower = [window for window in windows if not 0 < mixer.attention_window <= window]
        found += [windowed(mixer, window) for window in narrower]
    found += [GatedShortConv(kernel) for kernel in kernels]
    return tuple(dict.fromkeys((*found, Skip())))


def ffn_choices(ffn: SwiGLU | None, shares: Sequence[float] = SHARES) -> tuple[SwiGLU | None, ...]:
    """The parent's feed-forward first, then narrower ones, none."""
    if ffn is None:
        return (None,)
    widths = [max(1, round(ffn.width * share / FFN_MULTIPLE)) * FFN_MULTIPLE for share in shares]
    narrower = [replace(ffn, width=width) for width in widths if width < ffn.width]
    return tuple(dict.fromkeys((ffn, *narrower, None)))


def windowed(mixer: Gqa, window: int) -> SlidingWindow:
    """The same heads over the last ``window`` tokens."""
    shared: dict[str, Any] = {field.name: getattr(mixer, field.name) for field in fields(Gqa)}
    return SlidingWindow(**{**shared, "window": window})


def _fewer_heads(mixer: Gqa) -> list[int]:
    """Half as many key-value heads where that is whole, and one."""
    half = mixer.num_kv_heads // 2 if mixer.num_kv_heads % 2 == 0 else 1
    return sorted({half, 1} - {mixer.num_kv_heads}, reverse=True)
