"""Do two sessions agree? Eight layouts across the 350M class, measured twice, ten minutes apart, order shuffled."""

from __future__ import annotations

import argparse
import random
import statistics
import time
from typing import Any

from scipy.stats import spearmanr

from benchmarks.record import console, publish
from contracts.job import MeasureJob
from contracts.measurement import Measurement
from contracts.plan import Plan, screening
from device_agents.session import Session, summarize, take_run
from hilnas.local import LocalMeasurer
from search_space.arch import ArchConfig
from search_space.sampling import spread_layouts
from search_space.space import space as build_space

METRICS = ("prefill_ms@512", "decode_ms@512", "decode_ms@4096")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layouts", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=10.0, help="pause between the two sessions")
    parser.add_argument("--rounds", type=int, default=5, help="cold runs of every layout in a session")
    options = parser.parse_args()
    archs = spread_layouts(build_space("lfm2_350m_class"), options.layouts, seed=11)
    sessions = measure(archs, options.minutes, options.rounds)
    rows = [compare(arch.layout, *(session[arch.digest] for session in sessions)) for arch in archs]
    publish("repeatability", {**judge(archs, sessions, rows), "minutes_between": options.minutes}, rows)


def measure(archs: list[ArchConfig], minutes: float, rounds: int) -> list[dict[str, Measurement]]:
    """Two sessions ``minutes`` apart."""
    bench = LocalMeasurer()
    bench.compile(archs)
    plans = {arch.digest: bench.plan(arch, screening().model_copy(update={"repetitions": 5})) for arch in archs}
    sessions: list[dict[str, Measurement]] = []
    for turn in range(2):
        if turn:
            console.print(f"pausing {minutes:g} minutes")
            time.sleep(60 * minutes)
        sessions.append(take_session(bench, plans, rounds, random.Random(turn)))
    bench.close()
    return sessions


def judge(
    archs: list[ArchConfig], sessions: list[dict[str, Measurement]], rows: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "cv_raw": round(statistics.mean(row[f"{metric} raw"] for row in rows for metric in METRICS), 4),
        "cv_corrected": round(statistics.mean(row[f"{metric} cv"] for row in rows for metric in METRICS), 4),
        "spearman_between_runs": round(min(rank(sessions, archs, metric) for metric in METRICS), 4),
        "layouts": len(rows),
    }


def take_session(
    bench: LocalMeasurer, plans: dict[str, Plan], rounds: int, rng: random.Random
) -> dict[str, Measurement]:
    """``rounds`` cold runs of every layout, each round in a new random order: what the machine does over minutes then
    falls on all layouts alike."""
    runs = {digest: Session() for digest in plans}
    start = time.monotonic()
    for _ in range(rounds):
        for digest in rng.sample(list(plans), len(plans)):
            take_run(plans[digest], bench.device, runs[digest], lambda: False)
    wall_s = time.monotonic() - start
    return {
        digest: summarize(MeasureJob(plan=plan), runs[digest], Session(), bench.canaries, {}, wall_s)
        for digest, plan in plans.items()
    }


def compare(layout: str, first: Measurement, second: Measurement) -> dict[str, Any]:
    """Coefficient of variation of the two sessions' medians, raw and canary-corrected, per metric."""
    row: dict[str, Any] = {"layout": layout, "verdicts": f"{first.verdict}/{second.verdict}"}
    for metric in METRICS:
        a, b = first.metrics[metric], second.metrics[metric]
        row |= {
            metric: a.median,
            f"{metric} raw": variation(a.raw or 0, b.raw or 0),
            f"{metric} cv": variation(a.median, b.median),
        }
    return row


def variation(a: float, b: float) -> float:
    """Standard deviation over mean of two values."""
    return statistics.stdev((a, b)) / statistics.mean((a, b))


def rank(sessions: list[dict[str, Measurement]], archs: list[ArchConfig], metric: str) -> float:
    first, second = ([session[arch.digest].metrics[metric].median for arch in archs] for session in sessions)
    return float(spearmanr(first, second).statistic)


if __name__ == "__main__":
    main()
