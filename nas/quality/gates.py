"""What must hold before a score counts: no mixer reads ahead, the proxy learned something, nothing is too good.

A leak test of eight single-row forwards (after karpathy/nanochat#845), a floor and an alarm: tables of accuracies alone
have hidden models that saw their labels, and models that learned nothing.
"""

from __future__ import annotations

import json

import torch
from torch import Tensor

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import MixerConfig
from search_space.modeling.model import HilnasForCausalLM, build_model

LENGTH, PREFIXES = 64, (1, 3, 7, 15, 31, 32, 63)
TOLERANCE = 1e-4  # of the spread of the logits: rounding of float32 stays below 1e-5
LEAST_BITS = 0.4  # per byte of unseen text; models of billions of parameters stay above 0.5


class LeakingMixer(InvalidConfig):
    """A mixer lets a token change what stands before it."""


class BelowFloor(InvalidConfig):
    """The proxy is no better than a guess on its own task."""


class TooGood(InvalidConfig):
    """A score that no honest model can have."""


_passed: set[str] = set()  # mixers with their settings and width that this process has tested


def require_causal(proxy: ArchConfig) -> None:
    """Tests each distinct mixer of a proxy at its size, once in a process. Raises LeakingMixer by name."""
    for mixer in {json.dumps(layer.mixer.to_dict(), sort_keys=True): layer.mixer for layer in proxy.layers}.values():
        key = json.dumps([proxy.d_model, mixer.to_dict()], sort_keys=True)
        if not mixer.identity and key not in _passed:
            _require_causal(mixer, proxy.d_model)
            _passed.add(key)


def require_above_floor(score: float, half: float, floor: float, direction: str, what: str) -> None:
    """Raises BelowFloor unless ``score`` and ``half`` of its interval lie beyond ``floor``, which ``what``
    reaches without learning anything."""
    ahead = score - floor if direction == "max" else floor - score
    if not ahead > half:
        raise BelowFloor(
            f"the proxy scores {score:.4g} ± {half:.2g} and {what} {floor:.4g}: it learned nothing that counts;"
            " give the estimator more steps or tokens, or leave this candidate out"
        )


def require_possible_bits(bits: float, least: float = LEAST_BITS) -> None:
    """Raises TooGood for bits per byte below what any known model has on unseen text."""
    if bits < least:
        raise TooGood(
            f"{bits:.3f} bits per byte on unseen text is below {least}, less than any known model needs:"
            " look for a mixer that sees the next token or held-out text among the training text"
        )


def require_chance(hits: int, count: int, chance: float, task: str) -> None:
    """Raises TooGood when targets that nothing announces are met more often than chance allows (five deviations)."""
    most = chance * count + 5 * (count * chance * (1 - chance)) ** 0.5
    if hits > most:
        raise TooGood(
            f"{hits} of {count} targets of {task} are right, though nothing announces them, where chance gives"
            f" {chance * count:.0f}: look for a mixer that sees the next token"
        )


def _require_causal(mixer: MixerConfig, d_model: int) -> None:
    """In train mode and with every parameter away from a start at which a gate may be shut."""
    layer = LayerConfig(mixer, SwiGLU(32))
    state = torch.get_rng_state()
    try:
        model = build_model(ArchConfig(d_model, 64, (layer, layer)), seed=0).train()
        _disturb(model)
        generator = torch.Generator().manual_seed(1)
        first, other = (torch.randint(0, 64, (1, LENGTH), generator=generator) for _ in range(2))
        whole = _logits(model, first)
        for prefix in PREFIXES:
            changed = torch.cat((first[:, :prefix], other[:, prefix:]), 1)
            moved = (_logits(model, changed) - whole)[0, :prefix].abs().amax(-1)
            if float(moved.max()) > TOLERANCE * float(whole.std()):
                raise LeakingMixer(
                    f"mixer {mixer.label!r} reads ahead: other tokens after the first {prefix} of {LENGTH} move the"
                    f" logits at position {int(moved.argmax())} by {float(moved.max()):.2g}; a mixer may read only its"
                    " own and earlier tokens"
                )
    finally:
        torch.set_rng_state(state)


@torch.no_grad()
def _disturb(model: HilnasForCausalLM) -> None:
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.1)


@torch.no_grad()
def _logits(model: HilnasForCausalLM, ids: Tensor) -> Tensor:
    return model.lm_head(model.model(ids))
