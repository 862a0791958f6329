"""What every block of the landscape's space costs on this host: one decoded token at two contexts. A chain for each
mixer, its feed-forwards in turn; then some candidates of the list as a whole, against the sum of their blocks."""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
from collections import defaultdict
from itertools import cycle, islice
from typing import Any

from benchmarks.landscape_space import LANDSCAPE, QUANTIZATION, around, block_labels, sum_of_blocks
from benchmarks.record import publish
from contracts.measurement import SPOILED, Measurement
from contracts.plan import Cache, Protocol
from hilnas.local import LocalMeasurer
from search_space.arch import ArchConfig, LayerConfig
from search_space.sampling import spread_layouts
from search_space.space import SearchSpace

CONTEXTS = [1024, 4096]
PROTOCOL = Protocol(  # short repetitions on one thread: on a shared machine a stall then spoils one of many
    name="blocks", threads=1, repetitions=60, prefill_lengths=[], decode_contexts=CONTEXTS, decode_tokens=8,
)  # fmt: skip
MAX_SESSIONS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--whole", type=int, default=6, help="candidates that are measured whole")
    options = parser.parse_args()
    space = around(json.loads(gzip.decompress(LANDSCAPE.read_bytes())))
    rows = measure(space, options.whole)
    publish("landscape_costs", judge(rows), table(rows), rows)


def measure(space: SearchSpace, whole: int) -> list[dict[str, Any]]:
    """One row for each chain: the median time of every step and of the chain, by phase."""
    chains, drawn = chains_of(space), spread_layouts(space, whole, seed=0)
    with LocalMeasurer(quantization=QUANTIZATION) as bench:
        bench.compile([*chains, *drawn])
        return [row_of(bench, arch, whole=at >= len(chains)) for at, arch in enumerate([*chains, *drawn])]


def chains_of(space: SearchSpace) -> list[ArchConfig]:
    """The fewest chains that hold every block several times."""
    first = space.decode({name: labels[0] for name, labels in space.parameters().items()})
    mixers, ffns = space.choices[0].mixers, [one for one in space.choices[0].ffns if one]
    return [
        ArchConfig(
            first.d_model, first.vocab_size,
            tuple(LayerConfig(mixer, ffn) for ffn in islice(cycle(ffns), space.depth)), rope_theta=first.rope_theta,
        )
        for mixer in mixers if not mixer.identity
    ]  # fmt: skip


def row_of(bench: LocalMeasurer, arch: ArchConfig, whole: bool) -> dict[str, Any]:
    measured = session(bench, arch)
    return {
        "layout": arch.layout, "whole": whole, "verdict": str(measured.verdict), "arch": arch.to_dict(),
        "block_ms": measured.block_ms, "chain_ms": {key: one.median for key, one in measured.metrics.items()},
    }  # fmt: skip


def session(bench: LocalMeasurer, arch: ArchConfig) -> Measurement:
    plan = bench.plan(arch, PROTOCOL)
    plan = plan.model_copy(update={"cache": Cache(dtype="fp32", capacity=PROTOCOL.capacity)})
    for _ in range(MAX_SESSIONS):  # as a study does with what the machine spoiled
        measured = bench.measure_plan(plan, max_repeats=4, cold_repeats=2)
        if measured.verdict not in SPOILED:
            break
    return measured


def judge(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Median of a block over the chains that hold it; how far the sum of the blocks is from whole candidates."""
    block_ms = {f"decode_ms@{context}": medians(rows, f"decode@{context}") for context in CONTEXTS}
    ratios = [
        row["chain_ms"][key] / sum_of_blocks(ArchConfig.from_dict(row["arch"]), costs)
        for key, costs in block_ms.items() for row in rows if row["whole"]
    ]  # fmt: skip
    summary: dict[str, Any] = {"block_ms": block_ms}
    if ratios:
        summary["chain_over_sum"] = {"median": round(statistics.median(ratios), 4), "min": round(min(ratios), 4),
                                     "max": round(max(ratios), 4), "pairs": len(ratios)}  # fmt: skip
    return summary


def medians(rows: list[dict[str, Any]], phase: str) -> dict[str, float]:
    found: dict[str, list[float]] = defaultdict(list)
    for row in (row for row in rows if not row["whole"]):
        labels = block_labels(ArchConfig.from_dict(row["arch"]))
        for step, ms in row["block_ms"][phase].items():
            found[labels[step]].append(ms)
    return {label: round(statistics.median(times), 6) for label, times in sorted(found.items())}


def table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"layout": row["layout"], "whole": row["whole"], "verdict": row["verdict"], **row["chain_ms"]} for row in rows
    ]


if __name__ == "__main__":
    main()
