"""A candidate as one model, composed of the parent's sublayers and of learnt blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import torch
from torch import Tensor

from foundation.errors import InvalidConfig
from nas.parent.alternatives import PARTS, Alternative, Part
from search_space.arch import ArchConfig
from search_space.modeling.configuration import HilnasConfig
from search_space.modeling.model import HilnasForCausalLM

Weights = Mapping[Alternative, Mapping[str, Tensor]]


def replaced(arch: ArchConfig, parent: ArchConfig) -> list[Alternative]:
    """The sublayers of ``arch`` that are not the parent's, in order. Raises InvalidConfig when it is not around it."""
    for name in (field.name for field in fields(ArchConfig) if field.name != "layers"):
        if getattr(arch, name) != getattr(parent, name):
            raise InvalidConfig(
                f"a candidate around this parent has {name} {getattr(parent, name)}, got {getattr(arch, name)}"
            )
    if arch.depth != parent.depth:
        raise InvalidConfig(f"a candidate around this parent has {parent.depth} layers, got {arch.depth}")
    found = []
    for index, (mine, theirs) in enumerate(zip(arch.layers, parent.layers, strict=True)):
        if mine.mixer != theirs.mixer:
            found.append(Alternative(index, "mixer", mixer=mine.mixer))
        if mine.ffn != theirs.ffn:
            found.append(Alternative(index, "ffn", ffn=mine.ffn))
    return found


@torch.no_grad()
def assemble(arch: ArchConfig, parent: HilnasForCausalLM, weights: Weights) -> HilnasForCausalLM:
    """``arch`` with weights of its own on the parent's device.

    Raises InvalidConfig with the first block that is neither the parent's nor among ``weights``.
    """
    device, dtype = parent.device, parent.dtype
    with torch.device("meta"):
        model = HilnasForCausalLM(HilnasConfig.from_arch(arch))
    theirs = parent.state_dict()
    state = {name: value for name, value in theirs.items() if not name.startswith("model.layers.")}
    changed = {(one.layer, one.part): one for one in replaced(arch, parent.config.to_arch())}
    for index in range(arch.depth):
        for part in PARTS:
            state |= _sublayer(index, part, changed.get((index, part)), theirs, weights)
    model.load_state_dict({name: value.to(device, dtype).clone() for name, value in state.items()}, assign=True)
    for value in model.parameters():
        value.requires_grad_(True)
    model.tie_weights()
    return model.eval()


def _sublayer(
    index: int, part: Part, changed: Alternative | None, theirs: Mapping[str, Tensor], weights: Weights
) -> dict[str, Tensor]:
    """Weights of one sublayer by their names in the model."""
    if changed is None:
        prefixes = tuple(f"model.layers.{index}.{name}" for name in (f"{part}.", f"{part}_norm", f"{part}_post_norm"))
        return {name: value for name, value in theirs.items() if name.startswith(prefixes)}
    if changed.absent:
        return {}
    if changed not in weights:
        raise InvalidConfig(f"layer {index}: no learnt block for {changed.label}; learn it first, or keep the parent's")
    return {f"model.layers.{index}.{name}": value for name, value in weights[changed].items()}
