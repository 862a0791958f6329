"""Rules that candidates of a space keep: how many layers are of a kind, and what shared values go together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foundation.errors import InvalidConfig
from search_space.mixers import MixerConfig
from search_space.space.choices import Shared


@dataclass(frozen=True)
class CountRule:
    """At least ``at_least`` and at most ``at_most`` of the layers ``first`` to ``last`` (inclusive; the depth's last if
    None) have a mixer of one of ``kinds``."""

    kinds: tuple[str, ...]
    at_least: int = 0
    at_most: int | None = None
    first: int = 0
    last: int | None = None

    def __post_init__(self) -> None:
        if not self.kinds:
            raise InvalidConfig("a constraint on the number of layers names at least one mixer kind, got none")
        if self.at_least < 0 or (self.at_most is not None and self.at_most < self.at_least):
            raise InvalidConfig(f"at_most must not be below at_least, got {self.at_least} and {self.at_most}")

    @property
    def enough(self) -> int:
        """A number of layers from which on the rule's answer is always the same."""
        return self.at_least if self.at_most is None else self.at_most + 1

    def counts(self, index: int, mixer: MixerConfig) -> bool:
        inside = self.first <= index and (self.last is None or index <= self.last)
        return inside and mixer.kind in self.kinds

    def shortfall(self, mixers: Sequence[MixerConfig]) -> int:
        """By how many layers the rule is broken; 0 when it is kept."""
        count = sum(self.counts(index, mixer) for index, mixer in enumerate(mixers))
        return max(0, self.at_least - count) + (max(0, count - self.at_most) if self.at_most is not None else 0)

    @property
    def sentence(self) -> str:
        most = "" if self.at_most is None else f"at most {self.at_most}"
        least = f"at least {self.at_least}" if self.at_least else ""
        where = "" if self.first == 0 and self.last is None else f" among layers {self.first} to {self.last}"
        bounds = " and ".join(part for part in (least, most) if part) or "any number"
        return f"{bounds} of {'/'.join(self.kinds)}{where}"


@dataclass(frozen=True)
class SharedRule:
    """Where the shared values are as in ``given``, they must also be as in ``then``."""

    given: tuple[tuple[str, tuple[Any, ...]], ...]
    then: tuple[tuple[str, tuple[Any, ...]], ...]

    def kept(self, shared: Shared) -> bool:
        applies = all(shared[name] in values for name, values in self.given)
        return not applies or all(shared[name] in values for name, values in self.then)

    @property
    def sentence(self) -> str:
        return f"if {_listed(self.given)}, then {_listed(self.then)}"


def _listed(pairs: tuple[tuple[str, tuple[Any, ...]], ...]) -> str:
    return " and ".join(f"{name} is {' or '.join(map(str, values))}" for name, values in pairs)
