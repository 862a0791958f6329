"""Sets of architectures of a space, for calibration and benchmarks: at random, or spread evenly over its costs."""

from __future__ import annotations

import math
import random

from search_space.arch import ArchConfig
from search_space.cost import decode_bytes, macs_per_token
from search_space.space import SearchSpace

LIGHT, HEAVY = ("skip", "gated"), ("gqa",)


def random_layouts(space: SearchSpace, count: int, seed: int) -> list[ArchConfig]:
    """``count`` different architectures of a space."""
    rng, found = random.Random(seed), dict[str, ArchConfig]()
    while len(found) < count:
        arch = space.decode(space.sample(rng))
        found[arch.digest] = arch
    return list(found.values())


def spread_layouts(space: SearchSpace, count: int, seed: int) -> list[ArchConfig]:
    """``count`` architectures of a space spread evenly over its costs, smallest to largest in all of them.

    Uniform sampling gives near ties (a sum over many layers concentrates), and a rank correlation over ties is noise.
    """
    pool = _tilted_pool(space, 80 * count, random.Random(seed))
    costs = [_log_costs(arch) for arch in pool]
    low, high = ([pick(column) for column in zip(*costs, strict=True)] for pick in (min, max))
    chosen: list[ArchConfig] = []
    for step in range(count):
        share = (step + 0.5) / count
        target = [a + share * (b - a) for a, b in zip(low, high, strict=True)]
        free = [i for i, arch in enumerate(pool) if arch not in chosen]
        chosen.append(pool[min(free, key=lambda i: math.dist(costs[i], target))])
    return chosen


def _tilted_pool(space: SearchSpace, count: int, rng: random.Random) -> list[ArchConfig]:
    """Random candidates from mostly narrow with skips and windows to mostly wide with whole-context attention."""
    pool = {}
    for step in range(count):
        share = step / (count - 1)
        assignment = space.sample(rng)
        for name, labels in space.parameters().items():
            heavier = rng.random() < share
            if name.endswith(".ffn"):
                widths = sorted(labels, key=lambda label: float(label.partition(",")[0].rstrip("x")))
                assignment[name] = rng.choice(widths[len(widths) // 2 :] if heavier else widths[: len(widths) // 2])
            elif name.endswith(".mixer") and rng.random() < 0.7:
                wanted = [label for label in labels if label.startswith(HEAVY if heavier else LIGHT)]
                assignment[name] = rng.choice(wanted or list(labels))
        arch = space.decode(space.repaired(assignment, rng))
        pool[arch.digest] = arch
    return list(pool.values())


def _log_costs(arch: ArchConfig) -> list[float]:
    """The costs that times of prefill and of decoding at two contexts are expected to follow."""
    return [
        math.log(macs_per_token(arch, 256)),
        math.log(decode_bytes(arch, 512, "8da4w")),
        math.log(decode_bytes(arch, 4096, "8da4w")),
    ]
