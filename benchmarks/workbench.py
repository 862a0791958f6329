"""Measuring without a coordinator: the library, the eager reference and a device of this machine in one object."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from device_agents.canary import CanaryBook
from device_agents.devices.base import Device
from device_agents.devices.host import HostDevice
from device_agents.session import measure
from nas.contracts.job import MeasureJob
from nas.contracts.measurement import Measurement
from nas.contracts.plan import Check, Plan, Protocol
from nas.export.blocks import blocks_of
from nas.export.compose import build_plan, canary_arch, canary_of, candidate_check, chain_of
from nas.export.library import BlockLibrary
from nas.export.one_piece import export_candidate, one_piece_chain
from nas.export.reference import EagerChain
from search_space.arch import ArchConfig
from search_space.cost import decode_bytes, macs_per_token
from search_space.space import SearchSpace

LIBRARY = Path("var/library")
RESULTS = Path(__file__).parent / "results"


@dataclass
class Workbench:
    library: BlockLibrary = field(default_factory=lambda: BlockLibrary(LIBRARY))
    quantization: str = "8da4w"
    cache_dtype: str = "fp32"
    device: Device | None = None
    eager: EagerChain = field(default_factory=EagerChain)
    canaries: CanaryBook = field(default_factory=CanaryBook)

    def __post_init__(self) -> None:
        self.device = self.device or HostDevice(self.library.blocks_dir)

    def compile(self, archs: list[ArchConfig]) -> int:
        """Compiles every missing block of ``archs`` (canaries included), in parallel; returns how many there were."""
        canaries = [canary_arch(width) for width in {arch.d_model for arch in archs}]
        specs = [b.spec for arch in archs for b in blocks_of(arch, self.quantization)]
        specs += [
            b.spec for arch in canaries for b in blocks_of(arch, self.quantization) if b.spec.role in ("mixer", "ffn")
        ]
        started = self.library.start(specs)
        self.library.ensure(specs)
        return len(started)

    def plan(self, arch: ArchConfig, protocol: Protocol, check: bool = True, canary: bool = True) -> Plan:
        """The composed plan of a candidate whose blocks are compiled (or are compiled now)."""
        return build_plan(
            arch, chain_of(arch, self.quantization, self.library), protocol, cache_dtype=self.cache_dtype,  # type: ignore[arg-type]
            check=candidate_check(arch, self.quantization, self.cache_dtype, self.eager) if check else None,
            canary=canary_of(arch.d_model, self.quantization, self.library) if canary else None,
        )  # fmt: skip

    def one_piece_plan(self, arch: ArchConfig, protocol: Protocol, exported: dict[str, Any]) -> Plan:
        """The same candidate as the one program ``export`` made."""
        composed = self.plan(arch, protocol, check=False)
        chain = one_piece_chain(arch, exported["digest"])
        return composed.model_copy(update={"chain": chain, "check": Check(**exported["check"])})

    def export(self, arch: ArchConfig, distinct: bool = True, reuse: bool = True) -> dict[str, Any]:
        """The candidate as one program; ``reuse`` takes an earlier export of the same."""
        return export_candidate(str(self.library.root), arch.to_dict(), self.quantization, distinct, reuse)

    def measure(self, plan: Plan, **options: Any) -> Measurement:
        assert self.device is not None
        return measure(MeasureJob(plan=plan, **options), self.device, self.canaries)

    def close(self) -> None:
        self.library.close()


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
    labels, widths = [mixer.label for mixer in space.mixers], sorted(space.widths)
    light = [label for label in labels if label.startswith(("skip", "gated"))]
    heavy = [label for label in labels if label.startswith("gqa")]
    pool = {}
    for step in range(count):
        share = step / (count - 1)
        assignment = space.sample(rng)
        for name in assignment:
            heavier = rng.random() < share
            if name.endswith(".ffn"):
                assignment[name] = str(
                    rng.choice(widths[len(widths) // 2 :] if heavier else widths[: len(widths) // 2])
                )
            elif rng.random() < 0.7:
                assignment[name] = rng.choice(heavy if heavier else light)
        arch = space.decode(assignment)
        pool[arch.digest] = arch
    return list(pool.values())


def _log_costs(arch: ArchConfig) -> list[float]:
    """What prefill and decode at two contexts are expected to follow."""
    return [
        math.log(macs_per_token(arch, 256)),
        math.log(decode_bytes(arch, 512, "8da4w")),
        math.log(decode_bytes(arch, 4096, "8da4w")),
    ]
