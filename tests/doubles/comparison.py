"""A comparison whose times are made up: three rows, of which one is not valid, over four rounds."""

from __future__ import annotations

from typing import Any

from contracts.comparison import ComparedRow, Comparison, Settings
from contracts.device import DeviceFacts
from contracts.measurement import Estimate
from hilnas.comparison.pairs import pairs_of
from tests.server import samples

DRIFT = (1.0, 1.1, 0.95, 1.05)


def made_up(**changes: Any) -> Comparison:
    facts = DeviceFacts(**samples.facts("example", runner_version="hilnas-runner example"))
    settings = Settings(threads=2, prompts=[64], contexts=[128], quantization="8da4w", rounds=4)
    rows = [row("fast", 5.0), row("slow", 8.0), row("busy", 9.0, verdict="drifted", reason="the canary moved")]
    metrics = ["prefill_ms@64", "decode_ms@128"]
    given = {
        "title": "fast, slow and 1 more on example", "command": "hilnas compare fast slow busy --rounds 4",
        "measured_at": "2026-01-05T09:00:00Z", "minutes": 1.5, "device": facts, "settings": settings, "rows": rows,
        "pairs": pairs_of(rows, metrics), **changes,
    }  # fmt: skip
    return Comparison.model_validate(given)


def row(name: str, ms: float, session: str = "a", **changes: Any) -> ComparedRow:
    runs = [[ms * drift, ms * drift * 1.01, ms * drift * 0.99] for drift in DRIFT]
    samples = {"prefill_ms@64": [[10 * x for x in run] for run in runs], "decode_ms@128": runs}
    metrics = {key: estimate(values) for key, values in samples.items()}
    given = {
        "name": name, "engine": "hilnas", "model": "4L d128", "weights": "random, of its shapes",
        "quantization": "8da4w", "params": 690_000, "weight_bytes": 400_000, "cache_bytes": 300_000,
        "session": session, "verdict": "valid", "metrics": metrics, "samples": samples, "rounds": [0, 1, 2, 3],
        "cold_runs": 4, **changes,
    }  # fmt: skip
    return ComparedRow.model_validate(given)


def estimate(runs: list[list[float]]) -> Estimate:
    import statistics

    pooled = [value for run in runs for value in run]
    return Estimate(median=statistics.median(pooled), low=min(pooled), high=max(pooled), unit="ms",
                    num_samples=len(pooled))  # fmt: skip
