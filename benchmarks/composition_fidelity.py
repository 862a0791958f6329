"""Is a composed chain the same model as one exported whole? Twelve layouts, both forms measured in turn, cold each
time.

Both forms carry weights of their own in every layer, so that memory compares too. The candidates are 8-layer cuts of
the
350M class at its true widths: one-piece export time grows with depth, what is compared does not.
"""

from __future__ import annotations

import argparse
import statistics
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from scipy.stats import spearmanr

from benchmarks.record import publish
from benchmarks.workbench import Workbench, spread_layouts
from device_agents.canary import CanaryBook
from device_agents.session import Samples, Session, take_run
from nas.contracts.plan import Protocol
from nas.export.one_piece import export_candidate
from search_space.arch import ArchConfig
from search_space.space import lfm2_350m_class

METRICS = ("prefill_ms@512", "decode_ms@512", "decode_ms@4096")
PROTOCOL = Protocol(name="fidelity", repetitions=5, decode_tokens=16, memory=True, block_times=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layouts", type=int, default=12)
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    bench = Workbench(canaries=CanaryBook())
    archs = spread_layouts(lfm2_350m_class(options.depth), options.layouts, seed=3)
    bench.compile(archs)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(export_candidate, str(bench.library.root), a.to_dict(), bench.quantization) for a in archs]
        exports = [job.result() for job in jobs]
    rows = [compare(bench, arch, export, options.rounds) for arch, export in zip(archs, exports, strict=True)]
    bench.close()
    errors = [row[f"{metric} error"] for row in rows for metric in METRICS]
    summary = {
        "median_latency_error": round(statistics.median(map(abs, errors)), 4),
        "max_latency_error": round(max(map(abs, errors)), 4),
        "spearman": round(min(rank(rows, metric) for metric in METRICS), 4),
        "rss_error": round(max(abs(row["rss error"]) for row in rows), 4),
        "layouts": len(rows),
    }
    publish("composition_fidelity", summary, rows)


def compare(bench: Workbench, arch: ArchConfig, export: dict, rounds: int) -> dict:
    """Composed and whole in turn, ``rounds`` cold processes each; the order alternates."""
    assert bench.device is not None
    plans = {
        "composed": bench.plan(arch, PROTOCOL, canary=False),
        "whole": bench.one_piece_plan(arch, PROTOCOL, export).model_copy(update={"canary": None}),
    }
    sessions = {form: Session() for form in plans}
    for turn in range(rounds):
        for form in sorted(plans, reverse=bool(turn % 2)):
            take_run(plans[form], bench.device, sessions[form], lambda: False)
    samples = {form: session.joined() for form, session in sessions.items()}
    row: dict = {"layout": arch.layout}
    for metric in METRICS:
        composed, whole = (statistics.median(samples[form].by_metric[metric]) for form in ("composed", "whole"))
        row |= {metric: whole, f"{metric} error": composed / whole - 1}
    composed, whole = (statistics.median(samples[form].peak_rss) for form in ("composed", "whole"))
    return row | {
        "rss MiB": whole / 2**20,
        "rss error": composed / whole - 1,
        "composed": metric_row(samples["composed"]),
    }


def metric_row(samples: Samples) -> str:
    return " ".join(f"{statistics.median(samples.by_metric[metric]):.2f}" for metric in METRICS)


def rank(rows: list[dict], metric: str) -> float:
    whole = [row[metric] for row in rows]
    composed = [row[metric] * (1 + row[f"{metric} error"]) for row in rows]
    return float(spearmanr(whole, composed).statistic)


if __name__ == "__main__":
    main()
