"""A search space: one flat categorical assignment per candidate, decoded to an ``ArchConfig`` and back."""

from __future__ import annotations

import random
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import MixerConfig
from search_space.space.choices import LayerChoices, Shared, build_ffn, build_mixer, is_allowed
from search_space.space.constraints import CountRule, SharedRule

if TYPE_CHECKING:
    from search_space.space.listing import Listing

Assignment = dict[str, str]
ARCH_FIELDS = ("d_model", "vocab_size", "tie_embeddings", "sandwich_norm", "norm_eps", "rope_theta",
               "embedding_multiplier")  # fmt: skip
DEPTH = "depth"
REPAIR_STEPS = 4000


@dataclass(frozen=True, eq=False)
class SearchSpace:
    """One ``LayerChoices`` per layer of the deepest candidate.

    An assignment maps ``layer_07.mixer`` and ``layer_07.ffn`` to choice labels, and the name of each shared value that
    varies (``d_model``, ``depth``, ``head_dim``, ...) to the value as text. Parameters with one choice are left out.
    ``tied_mixers`` and ``tied_ffns`` give groups of that many consecutive layers the same choice; the first layer of a
    group names it. Layers beyond a candidate's depth stand at their first choice, so that every candidate has exactly
    one assignment. ``listed`` limits the space to these candidates (``limited_to`` checks them); None: all.
    """

    name: str
    d_model: int
    vocab_size: int
    choices: tuple[LayerChoices, ...]
    arch_options: dict[str, Any] = field(default_factory=dict)
    shared: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    tied_mixers: int = 1
    tied_ffns: int = 1
    rules: tuple[CountRule, ...] = ()
    shared_rules: tuple[SharedRule, ...] = ()
    listed: tuple[Assignment, ...] | None = None

    def __post_init__(self) -> None:
        if not self.choices:
            raise InvalidConfig(f"space {self.name} needs at least one layer, got none")
        for name, values in self.shared.items():
            if not values or len({str(value) for value in values}) != len(values):
                raise InvalidConfig(f"space {self.name}: {name} needs different values to choose from, got {values!r}")
        if max(self.shared.get(DEPTH, (1,))) > len(self.choices):
            raise InvalidConfig(f"space {self.name}: depth goes to {max(self.shared[DEPTH])}, but only"
                                f" {len(self.choices)} layers have choices")  # fmt: skip

    # --- parameters ---------------------------------------------------------------------------------------------------

    @property
    def depth(self) -> int:
        """Layers of the deepest candidate."""
        return len(self.choices)

    def parameters(self) -> dict[str, tuple[str, ...]]:
        """Parameter name -> its choices, shared values first, then in layer order."""
        return dict(self._parameters)

    @cached_property
    def _parameters(self) -> dict[str, tuple[str, ...]]:
        found = {name: tuple(map(str, values)) for name, values in self.shared.items() if len(values) > 1}
        for index, layer in enumerate(self.choices):
            if index % self.tied_mixers == 0 and len(layer.mixers) > 1:
                found[f"layer_{index:02d}.mixer"] = layer.mixer_labels
            if index % self.tied_ffns == 0 and len(layer.ffns) > 1:
                found[f"layer_{index:02d}.ffn"] = layer.ffn_labels
        return found

    def shared_of(self, assignment: Mapping[str, str]) -> dict[str, Any]:
        """The shared values of a candidate, those that do not vary and the depth included."""
        fixed = {DEPTH: self.depth, "d_model": self.d_model, "vocab_size": self.vocab_size, **self.arch_options}
        chosen = {name: values[_index(self, assignment, name, tuple(map(str, values)))]
                  for name, values in self.shared.items()}  # fmt: skip
        return fixed | chosen

    def shared_values(self, only: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """Every combination of shared values that the rules allow; of some the values ``only`` where given."""
        fixed = {DEPTH: self.depth, "d_model": self.d_model, "vocab_size": self.vocab_size, **self.arch_options}
        given = only or {}
        for values in product(*([v for v in of if v == given.get(name, v)] for name, of in self.shared.items())):
            found = fixed | dict(zip(self.shared, values, strict=True))
            if all(rule.kept(found) for rule in self.shared_rules):
                yield found

    # --- codec --------------------------------------------------------------------------------------------------------

    def decode(self, assignment: Mapping[str, str]) -> ArchConfig:
        """Raises InvalidConfig if a parameter is missing, a value is not one of its choices, or a rule is broken."""
        arch, broken = self.relaxed(assignment)
        if broken:
            raise InvalidConfig(f"not a candidate of {self.name}: {broken[0]}")
        return arch

    def encode(self, arch: ArchConfig) -> Assignment:
        """Inverse of ``decode``; raises InvalidConfig if ``arch`` is not in this space."""
        for shared in self.shared_values({DEPTH: arch.depth} | {name: getattr(arch, name) for name in ARCH_FIELDS}):
            found = self._encoded(arch, shared) if shared[DEPTH] == arch.depth else None
            if found is not None and self.relaxed(found) == (arch, []):
                return found
        raise InvalidConfig(f"architecture {arch.label} is not in {self.name}")

    def _encoded(self, arch: ArchConfig, shared: Shared) -> Assignment | None:
        values = {name: str(shared[name]) for name in self.shared}
        for index, layer in enumerate(arch.layers):
            mixer = next((i for i, one in enumerate(self._mixers(index, shared)) if one == layer.mixer), None)
            ffn = next((i for i, one in enumerate(self._ffns(index, shared)) if one == layer.ffn), None)
            if mixer is None or ffn is None:
                return None
            if index % self.tied_mixers == 0:
                values[f"layer_{index:02d}.mixer"] = self.choices[index].mixer_labels[mixer]
            if index % self.tied_ffns == 0:
                values[f"layer_{index:02d}.ffn"] = self.choices[index].ffn_labels[ffn]
        return {name: values.get(name, labels[0]) for name, labels in self._parameters.items()}

    def canonical(self, assignment: Mapping[str, str]) -> Assignment:
        """The one assignment of this candidate: what its depth leaves out is at its first choice."""
        depth = self.shared_of(assignment)[DEPTH]
        return {
            name: labels[0] if layer_of(name) >= depth else assignment[name]
            for name, labels in self._parameters.items()
        }

    def relaxed(self, assignment: Mapping[str, str]) -> tuple[ArchConfig, list[str]]:
        """The architecture, and a sentence for each rule that it breaks."""
        shared = self.shared_of(assignment)
        broken = [rule.sentence for rule in self.shared_rules if not rule.kept(shared)]
        layers = []
        for index in range(self.depth):
            mixer, ffn = self._chosen(assignment, index)
            if index < shared[DEPTH]:
                for part in (mixer, ffn):
                    if not is_allowed(part, shared):
                        broken.append(f"layer {index}: {part.label} goes only with {dict(part.when)}")  # type: ignore[union-attr]
                layers.append(LayerConfig(build_mixer(mixer, shared), build_ffn(ffn, shared)))
        mixers = [layer.mixer for layer in layers]
        broken += [f"it needs {rule.sentence}" for rule in self.rules if rule.shortfall(mixers)]
        if self.listing is not None and self.canonical(assignment) not in self.listing:
            broken.append(f"it is none of the {len(self.listing)} listed ones")
        options = {name: shared[name] for name in (*ARCH_FIELDS, *self.arch_options) if name in shared}
        return ArchConfig(layers=tuple(layers), **options), broken

    def _chosen(self, assignment: Mapping[str, str], index: int) -> tuple[Any, Any]:
        mixer_at, ffn_at = index - index % self.tied_mixers, index - index % self.tied_ffns
        mixers, ffns = self.choices[mixer_at], self.choices[ffn_at]
        return (
            mixers.mixers[_index(self, assignment, f"layer_{mixer_at:02d}.mixer", mixers.mixer_labels)],
            ffns.ffns[_index(self, assignment, f"layer_{ffn_at:02d}.ffn", ffns.ffn_labels)],
        )

    def _mixers(self, index: int, shared: Shared) -> list[MixerConfig | None]:
        chosen = self.choices[index - index % self.tied_mixers].mixers
        return [build_mixer(one, shared) if is_allowed(one, shared) else None for one in chosen]

    def _ffns(self, index: int, shared: Shared) -> list[SwiGLU | None | str]:
        chosen = self.choices[index - index % self.tied_ffns].ffns
        return [build_ffn(one, shared) if is_allowed(one, shared) else "not allowed" for one in chosen]

    # --- moves --------------------------------------------------------------------------------------------------------

    def shortfall(self, assignment: Mapping[str, str]) -> int:
        """How far a candidate is from keeping all rules, or from the nearest listed one; 0 when it is in the space."""
        if self.listing is not None:
            return int(self.listing.distances(self.canonical(assignment)).min())
        arch, broken = self.relaxed(assignment)
        mixers = [layer.mixer for layer in arch.layers]
        return len(broken) + sum(max(0, rule.shortfall(mixers) - 1) for rule in self.rules)

    def sample(self, rng: random.Random) -> Assignment:
        if self.listing is not None:
            return self.listing.sample(rng)
        return self.repaired({name: rng.choice(labels) for name, labels in self._parameters.items()}, rng)

    def mutate(self, assignment: Mapping[str, str], rng: random.Random, num_changes: int = 1) -> Assignment:
        """Another candidate that differs in ``num_changes`` parameters, or in a few more where a rule asks for it; in a
        space of listed candidates another one near that, if there is another."""
        active = [name for name in self._parameters if layer_of(name) < self.shared_of(assignment)[DEPTH]]
        changed = dict(assignment)
        for name in rng.sample(active, min(num_changes, len(active))):
            changed[name] = rng.choice([label for label in self._parameters[name] if label != assignment[name]])
        return self.repaired(changed, rng, avoid=() if self.listing is None else (key_of(assignment),))

    def crossover(self, first: Mapping[str, str], second: Mapping[str, str], rng: random.Random) -> Assignment:
        """Each parameter from one of two candidates."""
        return self.repaired({name: rng.choice((first[name], second[name])) for name in self._parameters}, rng)

    def repaired(
        self, assignment: Mapping[str, str], rng: random.Random, avoid: Container[str] = ()
    ) -> Assignment:
        """A candidate that keeps all rules, near ``assignment``; itself (canonical) if it does. In a space of listed
        candidates the nearest one, if possible one whose key (``key_of``) is not in ``avoid``."""
        found = dict(assignment)
        if self.listing is not None:
            return self.listing.nearest(self.canonical(found), rng, avoid)
        if not (self.rules or self.shared_rules or self._conditional):
            return self.canonical(found)
        distance, names = self.shortfall(found), list(self._parameters)
        for _ in range(REPAIR_STEPS):
            if not distance:
                return self.canonical(found)
            name = rng.choice(names)
            changed = {**found, name: rng.choice(self._parameters[name])}
            if (there := self.shortfall(changed)) <= distance:
                found, distance = changed, there
        raise InvalidConfig(f"no candidate of {self.name} was found that keeps its rules: {self.relaxed(found)[1][0]}")

    @cached_property
    def _conditional(self) -> bool:
        return any(getattr(one, "when", ()) for layer in self.choices for one in (*layer.mixers, *layer.ffns))

    def same_as(self, other: SearchSpace) -> bool:
        """Whether both have the same candidates under the same assignments, whatever they are called."""
        return self._content == other._content

    @property
    def _content(self) -> tuple[object, ...]:
        shared = {name: tuple(values) for name, values in self.shared.items()}
        listed = None if self.listed is None else sorted(map(key_of, self.listed))
        return (self.d_model, self.vocab_size, self.choices, self.arch_options, shared, self.tied_mixers,
                self.tied_ffns, self.rules, self.shared_rules, listed)  # fmt: skip

    # --- a list -------------------------------------------------------------------------------------------------------

    @cached_property
    def listing(self) -> Listing | None:
        """The listed candidates as arrays; None where the space is not limited to a list."""
        from search_space.space.listing import Listing

        return None if self.listed is None else Listing(self, self.listed)

    def limited_to(self, candidates: Iterable[ArchConfig | Mapping[str, str]]) -> SearchSpace:
        """The same space with these candidates alone, given as architectures or assignments. Raises InvalidConfig for
        the first that is not in this space or stands there twice."""
        found: dict[str, int] = {}
        listed: list[Assignment] = []
        for at, one in enumerate(candidates):
            try:
                assignment = self.encode(one if isinstance(one, ArchConfig) else self.decode(one))
            except InvalidConfig as error:
                raise InvalidConfig(f"{self.name}: candidate {at} of the list: {error}") from None
            first = found.setdefault(key_of(assignment), at)
            if first != at:
                raise InvalidConfig(f"{self.name}: candidates {first} and {at} of the list are the same; give it once")
            listed.append(assignment)
        if not listed:
            raise InvalidConfig(f"space {self.name} needs at least one candidate, got none")
        return replace(self, listed=tuple(listed))

    @cached_property
    def num_candidates(self) -> int:
        """Different architectures that keep the rules."""
        from search_space.space.counting import count_candidates

        return count_candidates(self)


def uniform_space(
    name: str, d_model: int, vocab_size: int, depth: int, mixers: tuple[MixerConfig, ...], widths: tuple[int, ...],
    **arch_options: Any,
) -> SearchSpace:  # fmt: skip
    """``depth`` layers that all choose among ``mixers`` and feed-forward ``widths``: few blocks, many candidates."""
    layer = LayerChoices(mixers, tuple(SwiGLU(width) if width else None for width in widths))
    return SearchSpace(name, d_model, vocab_size, (layer,) * depth, arch_options)


def key_of(assignment: Mapping[str, str]) -> str:
    """One text per assignment, whatever the order of its parameters."""
    return repr(sorted(assignment.items()))


def layer_of(parameter: str) -> int:
    """The layer that a parameter belongs to; -1 for a shared value."""
    return int(parameter[6 : parameter.index(".")]) if parameter.startswith("layer_") else -1


def _index(space: SearchSpace, assignment: Mapping[str, str], name: str, labels: tuple[str, ...]) -> int:
    value = assignment.get(name, labels[0] if len(labels) == 1 else None)
    try:
        return labels.index(value)  # type: ignore[arg-type]
    except ValueError:
        raise InvalidConfig(
            f"{name}: {value!r} is not a choice of {space.name}; choices: {', '.join(labels)}"
        ) from None
