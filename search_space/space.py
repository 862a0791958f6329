"""A search space: one flat categorical assignment per candidate, decoded to an ``ArchConfig`` and back."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from foundation.errors import InvalidConfig
from foundation.registry import Registry
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa, MixerConfig, Skip, SlidingWindow

Assignment = dict[str, str]


@dataclass(frozen=True)
class SearchSpace:
    """``depth`` layers, each with one of ``mixers`` and one of ``widths``; all candidates share everything else.

    An assignment maps ``layer_07.mixer`` to a mixer label and ``layer_07.ffn`` to a width label. Distinct blocks number
    len(mixers) + len(widths) + 2, however many candidates there are: that is what makes measuring cheap.
    """

    name: str
    d_model: int
    vocab_size: int
    depth: int
    mixers: tuple[MixerConfig, ...]
    widths: tuple[int, ...]
    arch_options: dict[str, Any] = field(default_factory=dict)

    def parameters(self) -> dict[str, tuple[str, ...]]:
        """Parameter name -> its choices, in layer order. Parameters with one choice are left out."""
        mixers = tuple(mixer.label for mixer in self.mixers)
        widths = tuple(str(width) for width in self.widths)
        found: dict[str, tuple[str, ...]] = {}
        for index in range(self.depth):
            if len(mixers) > 1:
                found[f"layer_{index:02d}.mixer"] = mixers
            if len(widths) > 1:
                found[f"layer_{index:02d}.ffn"] = widths
        return found

    @property
    def num_candidates(self) -> int:
        return (len(self.mixers) * len(self.widths)) ** self.depth

    def decode(self, assignment: Assignment) -> ArchConfig:
        """Raises InvalidConfig if a parameter is missing or its value is not one of its choices."""
        by_label = {mixer.label: mixer for mixer in self.mixers}
        layers = []
        for index in range(self.depth):
            mixer = self._choice(assignment, f"layer_{index:02d}.mixer", tuple(by_label))
            width = self._choice(assignment, f"layer_{index:02d}.ffn", tuple(map(str, self.widths)))
            layers.append(LayerConfig(by_label[mixer], SwiGLU(int(width))))
        return ArchConfig(self.d_model, self.vocab_size, tuple(layers), **self.arch_options)

    def encode(self, arch: ArchConfig) -> Assignment:
        """Inverse of ``decode``; raises InvalidConfig if ``arch`` is not in this space."""
        values: Assignment = {}
        for index, layer in enumerate(arch.layers):
            values[f"layer_{index:02d}.mixer"] = layer.mixer.label
            values[f"layer_{index:02d}.ffn"] = str(layer.ffn.width if layer.ffn else 0)
        kept = {name: values[name] for name in self.parameters() if name in values}
        if arch.depth != self.depth or self.decode(kept) != arch:
            raise InvalidConfig(f"architecture {arch.label} is not in {self.name}")
        return kept

    def sample(self, rng: random.Random) -> Assignment:
        return {name: rng.choice(choices) for name, choices in self.parameters().items()}

    def mutate(self, assignment: Assignment, rng: random.Random, num_changes: int = 1) -> Assignment:
        """Another assignment that differs in exactly ``num_changes`` parameters."""
        parameters = self.parameters()
        changed = dict(assignment)
        for name in rng.sample(sorted(parameters), min(num_changes, len(parameters))):
            changed[name] = rng.choice([choice for choice in parameters[name] if choice != assignment[name]])
        return changed

    def _choice(self, assignment: Assignment, name: str, choices: tuple[str, ...]) -> str:
        value = assignment.get(name, choices[0] if len(choices) == 1 else None)
        if value not in choices:
            raise InvalidConfig(f"{name}: {value!r} is not a choice of {self.name}; choices: {', '.join(choices)}")
        return value


def debug_space(depth: int = 6, d_model: int = 256, vocab_size: int = 2048) -> SearchSpace:
    """A few million parameters: a whole search runs in minutes on two cores."""
    mixers = (GatedShortConv(3), Gqa(8, 2, 32), SlidingWindow(8, 2, 32, window=64), Skip())
    return SearchSpace("debug_space", d_model, vocab_size, depth, mixers, (2 * d_model, 4 * d_model))


def lfm2_350m_class(depth: int = 16) -> SearchSpace:
    """Around LFM2-350M (arXiv 2511.23404, Table 1): its sizes are one point of this space."""
    mixers = (
        GatedShortConv(3), GatedShortConv(7), Gqa(16, 8, 64), Gqa(16, 4, 64), SlidingWindow(16, 8, 64, window=512),
        Skip(),
    )  # fmt: skip
    return SearchSpace("lfm2_350m_class", 1024, 65_536, depth, mixers, (2560, 3584, 4608, 5632))


def lfm2_1_2b_class(depth: int = 16) -> SearchSpace:
    """Around LFM2-1.2B."""
    mixers = (
        GatedShortConv(3), GatedShortConv(7), Gqa(32, 8, 64), Gqa(32, 4, 64), SlidingWindow(32, 8, 64, window=1024),
        Skip(),
    )  # fmt: skip
    return SearchSpace("lfm2_1_2b_class", 2048, 65_536, depth, mixers, (5120, 6656, 8192, 9728))


SPACES: Registry[Callable[..., SearchSpace]] = Registry("search space")
for _builder in (debug_space, lfm2_350m_class, lfm2_1_2b_class):
    SPACES.add(_builder.__name__, _builder)


def space(name: str, options: dict[str, Any] | None = None) -> SearchSpace:
    """A space by name; ``options`` are the arguments of its function."""
    build = SPACES.get_or_raise(name)
    try:
        inspect.signature(build).bind(**(options or {}))
    except TypeError:
        known = ", ".join(inspect.signature(build).parameters) or "none"
        raise InvalidConfig(f"{name}: options {sorted(options or {})} do not fit; known options: {known}") from None
    return build(**(options or {}))
