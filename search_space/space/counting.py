"""How many candidates a space has, and between which closed-form costs they lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Literal

from search_space.arch import ArchConfig
from search_space.mixers import MixerConfig
from search_space.space.choices import Shared
from search_space.space.core import DEPTH, SearchSpace

Counts = tuple[int, ...]


def count_candidates(space: SearchSpace) -> int:
    """Exact, without listing them: for each combination of shared values, ways to choose the layers by the number of
    layers that each rule counts."""
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
    return tuple(
        count + sum(rule.counts(index, mixer) for index in layers)
        for count, rule in zip(counts, space.rules, strict=True)
    )


def _keeps(space: SearchSpace, counts: Counts) -> bool:
    return all(
        count >= rule.at_least and (rule.at_most is None or count <= rule.at_most)
        for count, rule in zip(counts, space.rules, strict=True)
    )


def extreme(space: SearchSpace, cost: Callable[[ArchConfig], float], pick: Literal["min", "max"]) -> float:
    """The least or the largest of an additive cost over all candidates, rules on the number of layers aside: a bound
    that no candidate passes."""
    best = min if pick == "min" else max
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
            chosen[name] = best(labels, key=lambda label: cost(space._built({**chosen, name: label})[0]))
    return space._built(chosen)[0]
