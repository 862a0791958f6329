"""Which architectures a quantization can pack: 4-bit weights come in groups of 32 inputs, which must fill every row."""

from __future__ import annotations

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.cost import GROUP_SIZE, QUANTIZATIONS
from search_space.mixers import MixerConfig
from search_space.space.core import SearchSpace

GROUPED = ("8da4w",)
Part = MixerConfig | SwiGLU | None


def require_quantization(name: str) -> None:
    """Raises InvalidConfig with the known ones."""
    if name not in QUANTIZATIONS:
        raise InvalidConfig(f"unknown quantization {name!r}; known: {', '.join(QUANTIZATIONS)}")


def require_quantizable(arch: ArchConfig, quantization: str) -> None:
    """Raises InvalidConfig with the first layer whose widths do not fit, and the nearest that would."""
    require_quantization(quantization)
    for index, layer in enumerate(arch.layers):
        _require_layer(index, layer, arch.d_model, quantization)


def require_quantizable_space(space: SearchSpace, quantization: str) -> None:
    """The same for every choice of every layer of a space."""
    require_quantization(quantization)
    if quantization not in GROUPED:
        return
    if space.listing is not None:
        for arch in space.listing.archs:
            require_quantizable(arch, quantization)
        return
    checked: set[tuple[int, Part]] = set()
    for shared in space.shared_values():
        for index in range(space.depth):
            for part in (*space._mixers(index, shared), *space._ffns(index, shared)):
                if not isinstance(part, str) and (place := (shared["d_model"], part)) not in checked:
                    checked.add(place)
                    _require_part(index, part, shared["d_model"], quantization)


def _require_layer(index: int, layer: LayerConfig, d_model: int, quantization: str) -> None:
    for part in (layer.mixer, layer.ffn):
        _require_part(index, part, d_model, quantization)


def _require_part(index: int, part: Part, d_model: int, quantization: str) -> None:
    if part is None or quantization not in GROUPED:
        return
    for linear in part.linears(d_model):
        if linear.in_features % GROUP_SIZE:
            nearest = max(1, round(linear.in_features / GROUP_SIZE)) * GROUP_SIZE
            raise InvalidConfig(
                f"layer {index}: {part.label} has a matrix with {linear.in_features} inputs, and {quantization} packs"
                f" weights in groups of {GROUP_SIZE}: the nearest width is {nearest}; 8da8w and fp32 take any width"
            )
