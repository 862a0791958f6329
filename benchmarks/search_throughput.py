"""Candidates per hour of a real study, and of its measurements alone: composed from compiled blocks against exporting
each candidate as a whole.

Space lfm2_350m_class, screening protocol, this host. Blocks are compiled before the clock starts (their time is
reported). The study runs with the default sampler through coordinator and agent; its clock covers asking, judging and
waiting too. The clock of a measurement covers what a candidate costs: eager reference, plan, parity check, warm-up,
timed passes, statistics.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.record import publish
from contracts.plan import PRECISION, screening
from device_agents.devices.served import ServedHostDevice
from hilnas.cli.search import watch_study
from hilnas.local import LIBRARY, LocalMeasurer
from hilnas.service import local_service
from search_space.arch import ArchConfig
from search_space.sampling import random_layouts
from search_space.space import space as build_space
from search_space.space.counting import cover

SPACE = "lfm2_350m_class"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--exports", type=int, default=3)
    parser.add_argument("--trials", type=int, default=24, help="Of the study.")
    parser.add_argument("--judged", type=int, default=8, help="Of them, by the estimator text.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--port", type=int, default=8743)
    options = parser.parse_args()
    measured = measure(options.candidates, options.exports, options.seed)
    study = studied(options.trials, options.judged, options.port)
    publish("search_throughput", judge(measured) | judge_study(study), measured.rows,
            {"exports": measured.exports, "study": study})  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """``rows`` of composed candidates, ``exports`` of the first of them exported whole; ``entry`` is what
    ``noise_against_prefill`` found."""

    rows: list[dict[str, Any]]
    exports: list[dict[str, Any]]
    entry: dict[str, float]
    blocks_compiled: int
    compile_s: float


def measure(candidates: int, num_exports: int, seed: int) -> Measured:
    device = ServedHostDevice(LIBRARY / "blocks")
    bench = LocalMeasurer(device=device)
    archs = random_layouts(build_space(SPACE), candidates, seed)
    start = time.monotonic()
    compiled = bench.compile([*archs, *cover(build_space(SPACE))])  # every block of the space
    compile_s = time.monotonic() - start
    bench.measure_plan(bench.plan(archs[0], screening()), max_repeats=1)  # starts the runner

    rows = [composed(bench, arch) for arch in archs]
    entry = noise_against_prefill(bench, archs[0])
    device.close()
    exports = [exported(bench, arch) for arch in archs[:num_exports]]
    bench.close()
    return Measured(rows, exports, entry, compiled, compile_s)


def judge(measured: Measured) -> dict[str, Any]:
    """A rate is 3,600 s over the mean wall time of one candidate."""
    rows = measured.rows
    wall = [row["wall_s"] for row in rows]
    per_hour = 3600 / statistics.mean(wall)
    each_per_hour = 3600 / statistics.mean(row["wall_s"] for row in measured.exports)
    return {
        "measurements_per_hour": round(per_hour, 1),
        "export_each_per_hour": round(each_per_hour, 2),
        "ratio": round(per_hour / each_per_hour, 2),
        "overhead_ratio": round(sum(wall) / sum(row["forward_s"] for row in rows), 3),
        "blocks_compiled": measured.blocks_compiled,
        "compile_s": round(measured.compile_s, 1),
        "valid": sum(row["verdict"] == "valid" for row in rows),
        "candidates": len(rows),
        **measured.entry,
    }


def studied(trials: int, judged: int, port: int) -> dict[str, Any]:
    """A study from its creation to its end, by wall clock; every block is in the library already."""
    spec = {
        "name": "throughput", "space": SPACE, "protocol": "screening", "max_trials": trials, "max_quality": judged,
        "objectives": [{"metric": "bits_per_byte"}, {"metric": "decode_ms@4096"}], "confirm": 0,
        "quality": {"estimator": "text", "options": {"tokens": 300_000, "width": 64, "learning_rates": [0.006]}},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        var = Path(folder)
        (var / "library").symlink_to(LIBRARY.absolute())
        with local_service(var, port) as rest:
            start = time.monotonic()
            study = watch_study(rest, str(rest.post("/studies", spec)["id"]))
            wall_s = time.monotonic() - start
            found = rest.get(f"/studies/{study['id']}/trials")
    rows = [{"state": one["state"], "layout": one["assignment"], "judged_s": (one["quality"] or {}).get("seconds")}
            for one in found]  # fmt: skip
    return {"wall_s": wall_s, "reason": study["reason"], "spec": spec, "trials": rows,
            "measured": sum(bool(one["measurements"]) for one in found)}  # fmt: skip


def judge_study(study: dict[str, Any]) -> dict[str, Any]:
    judged = [row["judged_s"] for row in study["trials"] if row["judged_s"] is not None]
    return {
        "candidates_per_hour": round(3600 * study["measured"] / study["wall_s"], 1),
        "study_minutes": round(study["wall_s"] / 60, 1), "study_measured": study["measured"],
        "study_judged": len(judged), "judgement_s": round(statistics.median(judged), 1) if judged else None,
    }  # fmt: skip


def composed(bench: LocalMeasurer, arch: ArchConfig) -> dict[str, Any]:
    start = time.monotonic()
    half_width, repeats = PRECISION["screening"]
    row = bench.measure_plan(bench.plan(arch, screening()), max_half_width=half_width, max_repeats=repeats)
    wall = time.monotonic() - start
    return {
        "layout": arch.layout, "verdict": str(row.verdict), "wall_s": wall, "forward_s": row.forward_s,
        **{key: row.metrics[key].median for key in ("prefill_ms@512", "decode_ms@512", "decode_ms@4096") if key in
        row.metrics},
    }  # fmt: skip


def noise_against_prefill(bench: LocalMeasurer, arch: ArchConfig) -> dict[str, float]:
    """Decode time over a noise-filled cache against the same context entered by a real prefill, in turn: the ratio of
    medians per context. Entering by position is a shortcut only while this is 1 within noise."""
    times: dict[tuple[str, int], list[float]] = {}
    for _ in range(4):
        for entry in ("noise", "prefill"):
            protocol = screening().model_copy(update={"enter_context": entry, "prefill_lengths": [64]})
            row = bench.measure_plan(bench.plan(arch, protocol, check=False), max_repeats=1)
            for context in protocol.decode_contexts:
                times.setdefault((entry, context), []).append(row.metrics[f"decode_ms@{context}"].raw or 0.0)
    return {
        f"noise_over_prefill@{context}": round(
            statistics.median(times["noise", context]) / statistics.median(times["prefill", context]), 3
        )
        for context in screening().decode_contexts
    }


def exported(bench: LocalMeasurer, arch: ArchConfig) -> dict[str, Any]:
    """The same candidate exported whole, then measured by the same protocol in a fresh process."""
    start = time.monotonic()
    export = bench.export(arch, reuse=False)
    export_s = time.monotonic() - start
    bench_cold = LocalMeasurer()
    row = bench_cold.measure_plan(bench.one_piece_plan(arch, screening(), export), max_repeats=1)
    return {
        "layout": arch.layout, "verdict": str(row.verdict), "reason": row.reason, "export_s": export_s,
        "wall_s": time.monotonic() - start, "forward_s": row.forward_s,
    }  # fmt: skip


if __name__ == "__main__":
    main()
