"""Is a composed chain the same model as one exported whole? Twelve layouts, both forms in turn, cold each time.

The whole form carries weights of its own in every layer, as a trained model does, so that memory compares too. The
candidates are 8-layer cuts of the 350M class at its true widths: export time grows with depth, what is compared
does not.
"""

from __future__ import annotations

import argparse
import random
import statistics
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from scipy.stats import spearmanr

from benchmarks.record import publish
from contracts.plan import Plan, Protocol
from device_agents.session import Session, take_run
from hilnas.local import LocalMeasurer
from nas.export.one_piece import export_candidate
from search_space.arch import ArchConfig
from search_space.sampling import spread_layouts
from search_space.space import space as build_space

METRICS = ("prefill_ms@512", "decode_ms@512", "decode_ms@4096")
PROTOCOL = Protocol(
    name="fidelity",
    repetitions=2,
    decode_repetitions=2,
    decode_tokens=24,
    decode_warmup_tokens=4,
    memory=True,
)
FORMS = ("composed", "whole")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layouts", type=int, default=12)
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    rows = measure(options.layouts, options.depth, options.rounds)
    publish("composition_fidelity", judge(rows), rows)


def measure(layouts: int, depth: int, rounds: int) -> list[dict[str, Any]]:
    """One row for each layout."""
    bench = LocalMeasurer()
    archs = spread_layouts(build_space("lfm2_350m_class", {"depth": depth}), layouts, seed=3)
    bench.compile(archs)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(export_candidate, str(bench.library.root), a.to_dict(), bench.quantization) for a in archs]
        exports = [job.result() for job in jobs]
    plans = {arch.digest: plans_of(bench, arch, export) for arch, export in zip(archs, exports, strict=True)}
    sessions = take_rounds(bench, plans, rounds)
    bench.close()
    return [compare(arch.layout, *sessions[arch.digest]) for arch in archs]


def judge(rows: list[dict[str, Any]]) -> dict[str, Any]:
    errors = [row[f"{metric} error"] for row in rows for metric in METRICS]
    return {
        "median_latency_error": round(statistics.median(map(abs, errors)), 4),
        "max_latency_error": round(max(map(abs, errors)), 4),
        "spearman": round(min(rank(rows, metric) for metric in METRICS), 4),
        "rss_error": round(max(abs(row["rss error"]) for row in rows), 4),
        "layouts": len(rows),
    }


def plans_of(bench: LocalMeasurer, arch: ArchConfig, export: dict[str, Any]) -> tuple[Plan, Plan]:
    """(composed, whole), without canary: each form is the other's."""
    whole = bench.one_piece_plan(arch, PROTOCOL, export).model_copy(update={"canary": None})
    return bench.plan(arch, PROTOCOL, canary=False), whole


def take_rounds(
    bench: LocalMeasurer, plans: dict[str, tuple[Plan, Plan]], rounds: int
) -> dict[str, tuple[Session, Session]]:
    """In every round each layout runs once in both forms, back to back and cold; the order of layouts and of forms is
    drawn anew, so that what the machine does over minutes falls on all alike."""
    rng = random.Random(0)
    sessions = {digest: (Session(), Session()) for digest in plans}
    for _ in range(rounds):
        for digest in rng.sample(list(plans), len(plans)):
            for form in rng.sample(range(2), 2):
                take_run(plans[digest][form], bench.device, sessions[digest][form], lambda: False)
    return sessions


def compare(layout: str, composed: Session, whole: Session) -> dict[str, Any]:
    """Errors are medians over rounds of composed / whole - 1, both of the same round."""
    row: dict[str, Any] = {"layout": layout}
    for metric in METRICS:
        times = [[statistics.median(run.by_metric[metric]) for run in form.runs] for form in (composed, whole)]
        row |= {
            f"{metric} composed": statistics.median(times[0]),
            f"{metric} whole": statistics.median(times[1]),
            f"{metric} error": statistics.median(a / b for a, b in zip(*times, strict=True)) - 1,
        }
    peaks = [statistics.median(max(run.peak_rss) for run in form.runs) for form in (composed, whole)]
    return row | {"rss MiB": peaks[1] / 2**20, "rss error": peaks[0] / peaks[1] - 1}


def rank(rows: list[dict[str, Any]], metric: str) -> float:
    """Spearman correlation of the two forms' medians over layouts."""
    columns = ([row[f"{metric} {form}"] for row in rows] for form in FORMS)
    return float(spearmanr(*columns).statistic)


if __name__ == "__main__":
    main()
