"""What may stand in for a sublayer of a parent, and the weights that it starts from.

Shape suffixes: D model width, H heads, G key-value heads, N head width, W feed-forward width.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Rows
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa, MixerConfig, Skip, SlidingWindow, mixer_from_dict
from search_space.modeling.layers import Sequence
from search_space.modeling.model import FeedForward, Layer
from search_space.space.around import windowed
from search_space.space.choices import ffn_label

Part = Literal["mixer", "ffn"]
PARTS: tuple[Part, ...] = ("mixer", "ffn")


@dataclass(frozen=True)
class Alternative:
    """One sublayer of one layer replaced: ``mixer`` where ``part`` is "mixer", ``ffn`` where it is "ffn"."""

    layer: int
    part: Part
    mixer: MixerConfig | None = None
    ffn: SwiGLU | None = None

    @property
    def label(self) -> str:
        """The choice's name in a search space."""
        if self.part == "mixer":
            return self.mixer.label if self.mixer else "skip"
        return ffn_label(self.ffn)

    @property
    def absent(self) -> bool:
        """Nothing stands there: no weights, nothing to learn."""
        return (self.mixer is None or self.mixer.identity) if self.part == "mixer" else self.ffn is None

    @property
    def layer_config(self) -> LayerConfig:
        """A layer of this sublayer alone."""
        return LayerConfig(self.mixer or Skip(), None) if self.part == "mixer" else LayerConfig(Skip(), self.ffn)

    def to_dict(self) -> dict[str, Any]:
        chosen = self.mixer.to_dict() if self.mixer else asdict(self.ffn) if self.ffn else None
        return {"layer": self.layer, "part": self.part, "choice": chosen}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Alternative:
        chosen = data["choice"]
        if data["part"] == "mixer":
            return cls(data["layer"], "mixer", mixer=mixer_from_dict(chosen) if chosen else None)
        return cls(data["layer"], "ffn", ffn=SwiGLU(**chosen) if chosen else None)


def alternatives_of(layer: int, mixers: Rows[MixerConfig], ffns: Rows[SwiGLU | None]) -> list[Alternative]:
    """Every choice of a layer but the first ones, which are the parent's."""
    mixed = [Alternative(layer, "mixer", mixer=mixer) for mixer in mixers[1:]]
    return mixed + [Alternative(layer, "ffn", ffn=ffn) for ffn in ffns[1:]]


def as_inherited(alternative: Alternative, parent: LayerConfig) -> bool:
    """True where the parent's weights serve as they are: a window over the same heads."""
    mine, theirs = alternative.mixer, parent.mixer
    if alternative.part != "mixer" or not isinstance(mine, SlidingWindow) or not isinstance(theirs, Gqa):
        return False
    return mine == windowed(theirs, mine.window)


def start(alternative: Alternative, parent: Layer, arch: ArchConfig, importance_W: Tensor | None = None) -> Layer:
    """A layer of this sublayer alone with the weights that it inherits, on the parent's device and in float32.

    ``importance_W`` ranks the channels of the parent's feed-forward (``channel_importance``). What cannot be inherited,
    as the gates of a convolution, keeps its random initialization.
    """
    device = next(parent.parameters()).device
    layer = Layer(alternative.layer_config, arch).to(device)
    for module in layer.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    with torch.no_grad():
        _copy(layer, parent, (f"{alternative.part}_norm", f"{alternative.part}_post_norm"))
        if alternative.part == "ffn" and alternative.ffn:
            _narrow(layer, parent, alternative.ffn.width, importance_W)
        elif alternative.mixer is not None:
            _mix(layer, parent, alternative.mixer)
    return layer


def _copy(layer: Layer, parent: Layer, names: Rows[str]) -> None:
    for name in names:
        mine, theirs = getattr(layer, name), getattr(parent, name)
        if mine is not None and theirs is not None:
            mine.load_state_dict(theirs.state_dict())


def _narrow(layer: Layer, parent: Layer, width: int, importance_W: Tensor | None) -> None:
    if layer.ffn is None or parent.ffn is None:
        raise InvalidConfig("a feed-forward is inherited from a feed-forward, but the parent's layer has none")
    ranked = importance_W if importance_W is not None else parent.ffn.w2.weight.norm(dim=0)
    kept = ranked.topk(width).indices.sort().values
    layer.ffn.w1.weight.copy_(parent.ffn.w1.weight[kept])
    layer.ffn.w3.weight.copy_(parent.ffn.w3.weight[kept])
    layer.ffn.w2.weight.copy_(parent.ffn.w2.weight[:, kept])


def _mix(layer: Layer, parent: Layer, mixer: MixerConfig) -> None:
    theirs = getattr(parent.mixer, "config", None)
    if isinstance(mixer, Gqa) and isinstance(theirs, Gqa):
        _pool(layer.mixer, parent.mixer, mixer, theirs)
    elif isinstance(mixer, GatedShortConv) and isinstance(theirs, Gqa):
        _convolve(layer.mixer, parent.mixer, theirs)


def _pool(mine: Any, theirs: Any, config: Gqa, parent: Gqa) -> None:
    """Heads of queries stay; each new key-value head is the mean of those that it replaces (Ainslie et al. 2023)."""
    if (config.num_heads, config.head_dim) != (parent.num_heads, parent.head_dim):
        raise InvalidConfig(f"{config.label} cannot inherit from {parent.label}: give the same heads and head width")
    state = theirs.state_dict()
    for name in ("k_proj.weight", "v_proj.weight"):
        heads_GND = state[name].unflatten(0, (config.num_kv_heads, -1, parent.head_dim))
        state[name] = heads_GND.mean(1).flatten(0, 1)
    mine.load_state_dict(state)


def _convolve(mine: Any, theirs: Any, parent: Gqa) -> None:
    """Values become the convolution's input and the output projection stays, where the heads fill the model width."""
    d_model = mine.out_proj.in_features
    if parent.num_heads * parent.head_dim != d_model:
        return
    values_GND = theirs.v_proj.weight.unflatten(0, (parent.num_kv_heads, parent.head_dim))
    values_HND = values_GND.repeat_interleave(parent.num_heads // parent.num_kv_heads, 0)
    mine.in_proj.weight[2 * d_model :] = values_HND.flatten(0, 1)
    mine.out_proj.weight.copy_(theirs.o_proj.weight)


def contribution(layer: Layer, part: Part, x_BTD: Tensor, sequence: Sequence) -> Tensor:
    """What the sublayer adds to the residual stream ``x_BTD``."""
    if part == "mixer":
        if layer.mixer is None or layer.mixer_norm is None:
            return torch.zeros_like(x_BTD)
        mixed = layer.mixer(layer.mixer_norm(x_BTD), sequence, None, 0)
        return layer.mixer_post_norm(mixed) if layer.mixer_post_norm else mixed
    if layer.ffn is None or layer.ffn_norm is None:
        return torch.zeros_like(x_BTD)
    fed = layer.ffn(layer.ffn_norm(x_BTD))
    return layer.ffn_post_norm(fed) if layer.ffn_post_norm else fed


def positions(x_BTD: Tensor) -> Sequence:
    """Whole rows from position 0."""
    return Sequence(torch.arange(x_BTD.shape[1], device=x_BTD.device).expand(x_BTD.shape[0], -1))


@torch.no_grad()
def channel_importance(layer: Layer, x_BTD: Tensor) -> Tensor:
    """Mean size of each channel's activation times the norm of its column of w2, [W]."""
    if layer.ffn is None or layer.ffn_norm is None:
        raise InvalidConfig("the layer has no feed-forward whose channels could be ranked")
    ffn: FeedForward = layer.ffn
    fed = layer.ffn_norm(x_BTD)
    inner = ffn.activation(ffn.w1(fed)) * ffn.w3(fed)
    return inner.abs().flatten(0, -2).mean(0) * ffn.w2.weight.norm(dim=0)
