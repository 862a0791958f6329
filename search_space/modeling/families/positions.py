"""Rotary settings between transformers' ``rope_parameters`` and an architecture; what is not understood is refused."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any, TypeVar

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig
from search_space.mixers import Gqa, MixerConfig
from search_space.rope import Llama3Scaling, Yarn

M = TypeVar("M", bound=MixerConfig)
LENGTH = "original_max_position_embeddings"
OPTIONS = {
    "default": frozenset[str](),
    "yarn": frozenset({"factor", LENGTH, "beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all_dim"}),
    "llama3": frozenset({"factor", LENGTH, "low_freq_factor", "high_freq_factor"}),
}


def read_positions(config: Any) -> dict[str, Any]:
    """``rope_theta``, ``yarn`` and ``llama3`` of an architecture. Raises InvalidConfig naming the option it lacks."""
    told = {name: value for name, value in dict(config.rope_parameters or {}).items() if value is not None}
    kind, theta = told.pop("rope_type", told.pop("type", "default")), float(told.pop("rope_theta", 10_000.0))
    told.pop("type", None)
    if kind not in OPTIONS:
        raise InvalidConfig(f"{config.model_type}: unknown rope type {kind!r}; known: {', '.join(OPTIONS)}")
    if told.get("partial_rotary_factor") == 1.0:
        del told["partial_rotary_factor"]
    if told.get("truncate") is True:
        del told["truncate"]
    for name in sorted(set(told) - OPTIONS[kind]):
        raise InvalidConfig(f"{config.model_type}: {name}={told[name]!r} of rope type {kind} is not understood")
    if kind == "yarn":
        return {"rope_theta": theta, "yarn": _yarn(config, told)}
    if kind == "llama3":
        told = {"original_length": told.pop(LENGTH, config.max_position_embeddings), **told}
        return {"rope_theta": theta, "llama3": Llama3Scaling(**told)}
    return {"rope_theta": theta}


def _yarn(config: Any, told: dict[str, Any]) -> Yarn:
    """Raises InvalidConfig for an attention factor other than the paper's, which ``Yarn`` computes itself."""
    original = told.get(LENGTH, config.max_position_embeddings)
    factor = told.get("factor") or config.max_position_embeddings / original
    yarn = Yarn(factor, original, told.get("beta_fast", 32.0), told.get("beta_slow", 1.0))
    given = [name for name in ("attention_factor", "mscale", "mscale_all_dim") if name in told]
    if given and not math.isclose(_attention_factor(told, yarn), yarn.attention_factor, rel_tol=1e-6):
        raise InvalidConfig(
            f"{config.model_type}: yarn's {', '.join(f'{name}={told[name]!r}' for name in given)} changes the attention"
            f" factor to {_attention_factor(told, yarn):.6g}; only {yarn.attention_factor:.6g} works"
        )
    return yarn


def _attention_factor(told: dict[str, Any], yarn: Yarn) -> float:
    """transformers' rule (modeling_rope_utils, _compute_yarn_parameters)."""
    if "attention_factor" in told:
        return float(told["attention_factor"])
    if told.get("mscale") and told.get("mscale_all_dim"):
        scaled = [0.1 * told[name] * math.log(yarn.factor) + 1.0 for name in ("mscale", "mscale_all_dim")]
        return scaled[0] / scaled[1]
    return yarn.attention_factor


def own_theta(mixer: M, arch: ArchConfig) -> M:
    """Attention whose base is the architecture's own, said or not, is written one way: without a base of its own."""
    same = isinstance(mixer, Gqa) and mixer.rope_theta == arch.rope_theta
    return replace(mixer, rope_theta=0.0) if same else mixer  # type: ignore[call-arg]


def write_positions(arch: ArchConfig) -> dict[str, Any]:
    """``rope_parameters`` of a stock configuration."""
    stretch = arch.yarn or arch.llama3
    if stretch is None:
        return {"rope_type": "default", "rope_theta": arch.rope_theta}
    options = asdict(stretch)
    options[LENGTH] = options.pop("original_length")
    return {"rope_type": "yarn" if arch.yarn else "llama3", "rope_theta": arch.rope_theta, **options}
