"""The contract of a model family: a stock class of transformers whose models become ours with weights, and go back.

Nothing is dropped: a field of a configuration that is neither read nor at the default of transformers' own class is
refused by its name, and so is a weight without a place, or a place without a weight.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from foundation.errors import InvalidConfig
from foundation.registry import Registry
from search_space.arch import ArchConfig
from search_space.modeling.configuration import HilnasConfig
from search_space.modeling.model import HilnasForCausalLM

# what says nothing about the function that a model computes, or is carried over as it is
NEUTRAL = frozenset({
    "_model_name_or_path", "_name_or_path", "architectures", "bos_token_id", "chunk_size_feed_forward", "dtype",
    "eos_token_id", "id2label", "initializer_range", "is_encoder_decoder", "label2id", "max_position_embeddings",
    "model_type", "output_attentions", "output_hidden_states", "pad_token_id", "problem_type", "return_dict",
    "torch_dtype", "transformers_version", "unk_token_id", "use_cache",
})  # fmt: skip
CARRIED = ("bos_token_id", "eos_token_id", "pad_token_id", "max_position_embeddings", "initializer_range")


class Family:
    """One file of this folder, registered in ``FAMILIES`` under transformers' ``model_type``; a plugin adds its own.

    ``reads`` are the fields that ``arch_of`` understands in full; ``inert`` are those that published checkpoints carry
    and transformers' class does not read.
    """

    model_type: ClassVar[str]
    config_class: ClassVar[type[PreTrainedConfig]]
    model_class: ClassVar[type[PreTrainedModel]]
    reads: ClassVar[frozenset[str]]
    inert: ClassVar[frozenset[str]] = frozenset()

    def arch_of(self, config: Any) -> ArchConfig:
        """Raises InvalidConfig with the first setting that an ``ArchConfig`` cannot hold."""
        raise NotImplementedError

    def config_of(self, arch: ArchConfig) -> PreTrainedConfig:
        """Raises InvalidConfig with the first setting that the stock class cannot hold."""
        raise NotImplementedError

    def names(self, arch: ArchConfig) -> dict[str, str]:
        """Our name of every weight -> the stock class's."""
        raise NotImplementedError

    def reshaped(self, name: str, value: Tensor, to_ours: bool) -> Tensor:
        """A weight (by our name) in the other side's shape."""
        return value


FAMILIES: Registry[Family] = Registry("model family", "model families")


def family_of(config: PreTrainedConfig) -> Family:
    return FAMILIES.get_or_raise(config.model_type)


def read_config(config: PreTrainedConfig) -> ArchConfig:
    """The architecture of a stock configuration, every field of it accounted for."""
    family = family_of(config)
    given, default = config.to_dict(), family.config_class().to_dict()
    known = family.reads | family.inert | NEUTRAL
    for name, value in given.items():
        if name not in known and value != default.get(name):
            expected = f"only its default {default[name]!r} works" if name in default else "leave it out"
            raise InvalidConfig(f"{family.model_type}: {name}={value!r} is not understood; {expected}")
    return family.arch_of(config)


@torch.no_grad()
def from_stock(model: PreTrainedModel) -> HilnasForCausalLM:
    """Our model with the same weights and logits. Raises InvalidConfig for whatever would be lost."""
    family, arch = family_of(model.config), read_config(model.config)
    carried = {name: value for name in CARRIED if (value := getattr(model.config, name, None)) is not None}
    ours = HilnasForCausalLM(HilnasConfig.from_arch(arch, **carried))
    names, theirs = _names(family, arch), _untied(model.state_dict(), arch)
    _all_used(names.values(), theirs, family.model_type)
    state = {mine: family.reshaped(mine, theirs[other], True) for mine, other in names.items()}
    return _filled(ours, state, arch)


@torch.no_grad()
def to_stock(model: HilnasForCausalLM, family: Family | None = None) -> PreTrainedModel:
    """The stock class with the same weights and logits; without ``family``, the first that the layout fits.

    Raises InvalidConfig with what does not fit (of each family when none was named).
    """
    arch = model.config.to_arch()
    chosen, config = (family, family.config_of(arch)) if family else _first_fitting(arch)
    for name in CARRIED:
        if (value := getattr(model.config, name, None)) is not None:
            setattr(config, name, value)
    stock = chosen.model_class(config)
    mine = _untied(model.state_dict(), arch)
    state = {other: chosen.reshaped(name, mine[name], False) for name, other in _names(chosen, arch).items()}
    return _filled(stock, state, arch)


def _first_fitting(arch: ArchConfig) -> tuple[Family, PreTrainedConfig]:
    reasons = []
    for family in FAMILIES.values():
        try:
            return family, family.config_of(arch)
        except InvalidConfig as error:
            reasons.append(str(error))
    raise InvalidConfig("; ".join(reasons))


def _names(family: Family, arch: ArchConfig) -> dict[str, str]:
    names = family.names(arch)
    return names if arch.tie_embeddings else {**names, "lm_head.weight": "lm_head.weight"}


def _untied(state: Mapping[str, Tensor], arch: ArchConfig) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if not (arch.tie_embeddings and name == "lm_head.weight")}


def _all_used(expected: Iterable[str], given: Mapping[str, Tensor], model_type: str) -> None:
    wanted = set(expected)
    for name in sorted(wanted - set(given)):
        raise InvalidConfig(f"{model_type}: the weight {name} is missing; give a complete checkpoint")
    for name in sorted(set(given) - wanted):
        raise InvalidConfig(f"{model_type}: the weight {name} has no place in an architecture of ours")


def _filled(model: Any, state: dict[str, Tensor], arch: ArchConfig) -> Any:
    model.to(dtype=next(iter(state.values())).dtype)
    missing, unexpected = model.load_state_dict(state, strict=False)
    left = set(missing) - ({"lm_head.weight"} if arch.tie_embeddings else set())
    if left or unexpected:
        raise InvalidConfig(f"weights do not fit: {', '.join(sorted({*left, *unexpected}))}")
    model.tie_weights()
    return model.eval()


def refuse(model_type: str, reasons: Iterable[tuple[object, str]]) -> None:
    """``reasons`` are pairs of what was found and a sentence; raises InvalidConfig with the first that holds."""
    for found, sentence in reasons:
        if found:
            raise InvalidConfig(f"cannot be written as {model_type}: {sentence}")


def the_only(values: Iterable[Any]) -> Any:
    """The value that all layers share, or None where they differ or there are none."""
    different = set(values)
    return next(iter(different)) if len(different) == 1 else None


def per_layer(index: int, table: Mapping[str, str]) -> dict[str, str]:
    """Names of one layer's weights: ``table`` holds those below ``model.layers.N.`` on both sides."""
    prefix = f"model.layers.{index}."
    return {prefix + mine: prefix + other for mine, other in table.items()}
