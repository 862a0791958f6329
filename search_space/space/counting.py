"""How many candidates a space has, and between which closed-form costs they lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Literal

from search_space.arch import ArchConfig
from search_space.mixers import MixerConfig
from search_space.space.choices import Shared
from search_space.space.core import DEPTH, SearchSpace

Counts = tuple[int, ...]


def count_candidates(space: SearchSpace) -> int:
    """Exact, without listing them: for each combination of shared values, ways to choose the layers by the number of
    layers that each rule counts."""
    if space.listing is not None:
        return len(space.listing)
    return sum(_ways(space, shared) for shared in space.shared_values())


def _ways(space: SearchSpace, shared: Shared) -> int:
    depth, ways = shared[DEPTH], 1
    for index in range(0, depth, space.tied_ffns):
        ways *= len({str(one) for one in space._ffns(index, shared) if one != "not allowed"})
    reached: Counter[Counts] = Counter({(0,) * len(space.rules): 1})
    for start in range(0, depth, space.tied_mixers):
        layers = range(start, min(depth, start + space.tied_mixers))
        mixers = {one for one in space._mixers(start, shared) if one is not None}
        following: Counter[Counts] = Counter()
        for counts, number in reached.items():
            for mixer in mixers:
                following[_counted(space, counts, layers, mixer)] += number
        reached = following
    kept = (n for counts, n in reached.items() if _keeps(space, counts))
    return ways * sum(kept)


def _counted(space: SearchSpace, counts: Counts, layers: range, mixer: MixerConfig) -> Counts:
    """Beyond what a rule asks about, numbers need not be told apart."""
    return tuple(
        min(count + sum(rule.counts(index, mixer) for index in layers), rule.enough)
        for count, rule in zip(counts, space.rules, strict=True)
    )


def _keeps(space: SearchSpace, counts: Counts) -> bool:
    return all(
        count >= rule.at_least and (rule.at_most is None or count <= rule.at_most)
        for count, rule in zip(counts, space.rules, strict=True)
    )


def extreme(space: SearchSpace, cost: Callable[[ArchConfig], float], pick: Literal["min", "max"]) -> float:
    """The least or the largest of an additive cost over all candidates, rules on the number of layers aside: a bound
    that no candidate passes. Exact for listed candidates."""
    best = min if pick == "min" else max
    if space.listing is not None:
        return best(map(cost, space.listing.archs))
    return best(cost(_greedy(space, shared, cost, pick)) for shared in space.shared_values())


def _greedy(
    space: SearchSpace, shared: Shared, cost: Callable[[ArchConfig], float], pick: Literal["min", "max"]
) -> ArchConfig:
    """Costs add up over layers, so the best choice of one layer does not depend on the others."""
    best = min if pick == "min" else max
    chosen = {name: labels[0] for name, labels in space.parameters().items()}
    chosen |= {name: str(shared[name]) for name in space.shared}
    for name, labels in space.parameters().items():
        if name not in space.shared:
            chosen[name] = best(labels, key=lambda label: cost(space.relaxed({**chosen, name: label})[0]))
    return space.relaxed(chosen)[0]


def cover(space: SearchSpace) -> Iterator[ArchConfig]:
    """A few architectures, rules aside, that hold every choice of every layer at every combination of shared values; of
    listed candidates all."""
    if space.listing is not None:
        yield from space.listing.archs
        return
    parameters = space.parameters()
    width = max((len(labels) for name, labels in parameters.items() if name not in space.shared), default=1)
    for shared in space.shared_values():
        chosen = {name: str(shared[name]) for name in space.shared}
        for at in range(width):
            yield space.relaxed({name: labels[at % len(labels)] for name, labels in parameters.items()} | chosen)[0]
