"""The candidates of the landscape: drawn in strata, seeded, in a shuffled order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.cost import decode_bytes, macs_per_token
from search_space.mixers import MixerConfig
from search_space.space.around import ffn_choices, mixer_choices

Assignment = dict[str, str]
Space = list[tuple[tuple[MixerConfig, ...], tuple[SwiGLU | None, ...]]]
CONTEXT = 2048


@dataclass(frozen=True)
class Candidate:
    """``name`` and ``choice`` say what a single replacement replaces."""

    index: int
    stratum: str
    assignment: Assignment
    name: str = ""
    choice: str = ""


def space_of(arch: ArchConfig, windows: Sequence[int]) -> Space:
    return [(mixer_choices(layer.mixer, windows), ffn_choices(layer.ffn)) for layer in arch.layers]


def parameters(space: Space) -> dict[str, tuple[str, ...]]:
    """Parameter -> labels of its choices, the parent's first."""
    found = {}
    for index, (mixers, ffns) in enumerate(space):
        found[f"layer_{index:02d}.mixer"] = tuple(mixer.label for mixer in mixers)
        found[f"layer_{index:02d}.ffn"] = tuple(str(ffn.width if ffn else 0) for ffn in ffns)
    return found


def singles(space: Space) -> list[Candidate]:
    """Every choice in the parent, one at a time."""
    choices = parameters(space)
    parent = {name: labels[0] for name, labels in choices.items()}
    pairs = [(name, label) for name, labels in choices.items() for label in labels[1:]]
    return [Candidate(i, "single", {**parent, name: label}, name, label) for i, (name, label) in enumerate(pairs)]


def draw_list(
    arch: ArchConfig, space: Space, counts: dict[str, int], divergence: dict[tuple[str, str], float], seed: int = 0
) -> list[Candidate]:
    """``counts`` of each stratum, then landmarks. ``divergence`` of every single replacement leads the refined ones."""
    rng, choices = random.Random(seed), parameters(space)
    seen: dict[tuple[str, ...], tuple[str, Assignment]] = {}

    def fill(stratum: str, make: Any) -> None:
        wanted, tries = len(seen) + counts[stratum], 0
        while len(seen) < wanted and tries < 50 * counts[stratum]:
            one = make(tries)
            seen.setdefault(tuple(one.values()), (stratum, one))
            tries += 1

    for name, one in landmarks(choices).items():
        seen.setdefault(tuple(one.values()), (name, one))
    parent = {name: labels[0] for name, labels in choices.items()}
    fill("uniform", lambda _: {name: rng.choice(labels) for name, labels in choices.items()})
    fill("near", lambda _: changed(parent, choices, rng, rng.randint(2, 5)))
    fill("tilted", lambda step: tilted(choices, rng, (step % counts["tilted"]) / counts["tilted"]))
    costs = single_costs(arch, space)
    fill("refined", lambda step: refined(choices, divergence, costs, rng, step, counts["refined"]))
    order = list(seen.values())
    rng.shuffle(order)
    return [Candidate(index, stratum, one) for index, (stratum, one) in enumerate(order)]


def landmarks(choices: dict[str, tuple[str, ...]]) -> dict[str, Assignment]:
    """The parent, one mixer throughout at each width, and three layouts with some attention left."""
    parent = {name: labels[0] for name, labels in choices.items()}
    found = {"parent": parent}
    mixers = [name for name in choices if name.endswith(".mixer")]
    shared = [label for label in choices[mixers[0]] if all(label in choices[name] for name in mixers)]
    for label in shared:
        found[f"all {label}"] = {**parent, **dict.fromkeys(mixers, label)}
    convs = [label for label in shared if label.startswith("gated_short_conv")]
    windows = [label for label in shared if label.startswith("sliding_window")]
    layouts = [("lfm2-like", 3, conv) for conv in convs[:1]] + [("half conv", 2, conv) for conv in convs[:1]]
    for name, period, other in (*layouts, *(("gemma-like", 5, window) for window in windows[-1:])):
        kept = {name for index, name in enumerate(mixers) if index % period == period - 1}
        found[name] = {**parent, **{mixer: other for mixer in mixers if mixer not in kept}}
    return found


def changed(start: Assignment, choices: dict[str, tuple[str, ...]], rng: random.Random, count: int) -> Assignment:
    """``start`` with ``count`` parameters changed."""
    names = rng.sample(sorted(choices), min(count, len(choices)))
    return {**start, **{name: rng.choice([one for one in choices[name] if one != start[name]]) for name in names}}


def tilted(choices: dict[str, tuple[str, ...]], rng: random.Random, share: float) -> Assignment:
    """From mostly absent, local and narrow (share 0) to mostly the parent's (share 1)."""
    found = {}
    for name, labels in choices.items():
        half = (len(labels) + 1) // 2
        heavy, light = labels[:half], labels[half:] or labels
        found[name] = rng.choice(heavy if rng.random() < share else light)
    return found


def refined(
    choices: dict[str, tuple[str, ...]], divergence: dict[tuple[str, str], float], costs: dict[tuple[str, str], float],
    rng: random.Random, step: int, count: int,
) -> Assignment:  # fmt: skip
    """The least sum of single divergences plus a price on cost, for a price from 0.001 to 100; every second one is
    changed in one to three places. Both sums are over independent choices, so each is chosen alone."""
    price = 10 ** (-3 + 5 * ((step // 2) % count) / count)
    best = {
        name: min(labels, key=lambda label: divergence.get((name, label), 0.0 if label == labels[0] else 9.0)
                  * rng.lognormvariate(0, 0.15 * (step % 2)) + price * costs[(name, label)])
        for name, labels in choices.items()
    }  # fmt: skip
    return best if step % 2 == 0 else changed(best, choices, rng, rng.randint(1, 3))


def single_costs(arch: ArchConfig, space: Space) -> dict[tuple[str, str], float]:
    """A choice's cost as a share of the parent's: half by bytes read, half by multiply-adds, at a context of 2,048."""
    found = {}
    for index, (mixers, ffns) in enumerate(space):
        layer, place = arch.layers[index], f"layer_{index:02d}"
        for mixer in mixers:
            found[(f"{place}.mixer", mixer.label)] = _cost(arch, index, replace(layer, mixer=mixer))
        for ffn in ffns:
            found[(f"{place}.ffn", str(ffn.width if ffn else 0))] = _cost(arch, index, replace(layer, ffn=ffn))
    return found


def _cost(arch: ArchConfig, index: int, layer: LayerConfig) -> float:
    other = replace(arch, layers=(*arch.layers[:index], layer, *arch.layers[index + 1 :]))
    bytes_share = decode_bytes(other, CONTEXT, "8da4w") / decode_bytes(arch, CONTEXT, "8da4w")
    return (bytes_share + macs_per_token(other, CONTEXT) / macs_per_token(arch, CONTEXT)) / 2
