"""Listed candidates as data, and the space that a list of architectures spans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig
from search_space.space.choices import LayerChoices
from search_space.space.core import DEPTH, SearchSpace

MAX_LISTED = 10_000  # a second to read
STRETCHES = ("yarn", "llama3")


def candidates_of(name: str, data: Mapping[str, Any]) -> list[Any]:
    """The entries of ``candidates``, which may be left out but not empty."""
    found = data.get("candidates", [])
    if not isinstance(found, list):
        raise InvalidConfig(f"{name}: candidates must be a list, got {str(found)[:80]}")
    if "candidates" in data and not 1 <= len(found) <= MAX_LISTED:
        raise InvalidConfig(f"{name}: a space lists 1 to {MAX_LISTED} candidates, got {len(found)}")
    return found


def architectures(name: str, given: list[Any]) -> list[ArchConfig]:
    for at, one in enumerate(given):
        if not isinstance(one, Mapping) or "layers" not in one:
            raise InvalidConfig(
                f"{name}: candidate {at} must be an architecture with its layers, as the space has no choices of its"
                f" own, got {str(one)[:80]}"
            )
    return [_architecture(f"{name}: candidate {at}", one) for at, one in enumerate(given)]


def _architecture(owner: str, given: Mapping[str, Any]) -> ArchConfig:
    try:
        return ArchConfig.from_dict(dict(given))
    except InvalidConfig as error:
        raise InvalidConfig(f"{owner}: {error}") from None
    except (TypeError, ValueError, AttributeError, OverflowError):
        raise InvalidConfig(f"{owner} is not an architecture: {str(given)[:80]}") from None


def listed(space: SearchSpace, given: list[Any]) -> list[ArchConfig | dict[str, str]]:
    """Each an architecture, an assignment, or the number of the choice of every parameter in turn."""
    return [_one(space, f"{space.name}: candidate {at}", one) for at, one in enumerate(given)]


def _one(space: SearchSpace, owner: str, one: Any) -> ArchConfig | dict[str, str]:
    if isinstance(one, Mapping):
        return _architecture(owner, one) if "layers" in one else {str(key): str(value) for key, value in one.items()}
    parameters = space.parameters()
    if not isinstance(one, list) or len(one) != len(parameters):
        raise InvalidConfig(
            f"{owner} must be an architecture, an object with the choice of every parameter, or a list of"
            f" {len(parameters)} choice numbers, got {str(one)[:80]}"
        )
    for number, (name, labels) in zip(one, parameters.items(), strict=True):
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < len(labels):
            raise InvalidConfig(f"{owner}: {name} has choices 0 to {len(labels) - 1}, got {number!r}")
    return {name: labels[number] for number, (name, labels) in zip(one, parameters.items(), strict=True)}


def spanned(name: str, archs: Sequence[ArchConfig]) -> SearchSpace:
    """The smallest space that holds all of ``archs``, not limited to them: per layer every mixer and feed-forward that
    one of them has there, and as shared values what differs between them. Raises InvalidConfig where their ``yarn`` or
    ``llama3`` differ."""
    if not archs:
        raise InvalidConfig(f"space {name} needs at least one candidate, got none")
    values = {key: _distinct([getattr(arch, key) for arch in archs]) for key in _plain_fields()}
    for key in STRETCHES:
        if len(values[key]) > 1:
            raise InvalidConfig(f"space {name}: all candidates need the same {key}; list those that differ apart")
    depths = sorted({arch.depth for arch in archs})
    choices = []
    for index in range(depths[-1]):
        layers = [arch.layers[index] for arch in archs if index < arch.depth]
        mixers, ffns = (_distinct([getattr(layer, part) for layer in layers]) for part in ("mixer", "ffn"))
        choices.append(LayerChoices(mixers, ffns))
    shared = {key: found for key, found in values.items() if len(found) > 1}
    fixed = {key: found[0] for key, found in values.items() if key not in ("d_model", "vocab_size")}
    options = {key: value for key, value in fixed.items() if key not in shared and value is not None}
    shared |= {DEPTH: tuple(depths)} if len(depths) > 1 else {}
    return SearchSpace(name, archs[0].d_model, archs[0].vocab_size, tuple(choices), options, shared)


def _plain_fields() -> list[str]:
    return [field.name for field in fields(ArchConfig) if field.name != "layers"]


def _distinct(values: Sequence[Any]) -> tuple[Any, ...]:
    """In the order in which they appear."""
    return tuple(dict.fromkeys(values))
