"""The same architecture with random weights, measured in turn with the trained program: does training change speed?"""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from contracts.measurement import Estimate, Measurement, Verdict
from foundation.files import atomic_folder

SEED = 0
COLD_RUNS = 3  # fewer cannot show how much the same program differs from run to run
STEADY = 0.15  # as the session has it: a run whose canary is slower than the fastest's by more met somebody
MAX_LOG_RATIO = math.log(1000)
TIMED = ("prefill_ms@", "decode_ms@")  # other times and rates are made of these two
Run = Sequence[Mapping[str, Any]]


def random_twin(model_dir: Path, cache: Path) -> Path:
    """A directory with ``model_dir``'s configuration and random weights, made once per configuration."""
    config = (model_dir / "config.json").read_bytes()
    folder = cache / "random" / f"{hashlib.sha256(config).hexdigest()[:24]}-{SEED}"
    if not folder.exists():
        import torch

        from search_space.modeling.configuration import HilnasConfig
        from search_space.modeling.model import HilnasForCausalLM

        with torch.random.fork_rng(devices=[]), atomic_folder(folder) as partial:
            torch.manual_seed(SEED)
            HilnasForCausalLM(HilnasConfig.from_pretrained(model_dir)).float().save_pretrained(partial)
    return folder


def ratios(row: Measurement) -> dict[str, dict[str, Any]]:
    """Trained over random for each timed metric: {ratio, low, high, noise, equal}; ``equal`` is None when the device
    did not hold still, since somebody else's work then lies on either side."""
    found: dict[str, dict[str, Any]] = {}
    for name, trained in row.metrics.items():
        if name.startswith(TIMED) and name in row.beside and row.beside[name].median:
            noise = run_noise(row.events, name)
            found[name] = {**ratio(trained, row.beside[name]), "noise": noise}
            found[name]["equal"] = equal_within_noise(found[name]) if row.verdict is Verdict.VALID else None
    return found


def ratio(above: Estimate, below: Estimate) -> dict[str, float]:
    """{ratio, low, high}: intervals of independent medians, joined by square and add in logarithms (Zou and Donner
    2008)."""
    value = above.median / below.median
    down = math.hypot(_log(above.median, above.low), _log(below.high, below.median))
    up = math.hypot(_log(above.high, above.median), _log(below.median, below.low))
    return {"ratio": value, "low": value * math.exp(-down), "high": value * math.exp(up)}


def _log(above: float, below: float) -> float:
    """An interval that reaches 0 says nothing of the ratio: a factor of MAX_LOG_RATIO, which JSON can hold."""
    return min(MAX_LOG_RATIO, math.log(above / below)) if below > 0 else MAX_LOG_RATIO


def equal_within_noise(found: Mapping[str, float]) -> bool:
    """The interval holds 1, or the ratio is nearer to 1 than cold runs of the same program are to each other: samples
    of one process share its memory layout, so that their interval alone is too narrow."""
    return found["low"] <= 1 <= found["high"] or abs(found["ratio"] - 1) <= found["noise"]


def run_noise(runs: Sequence[Run], name: str) -> float:
    """How far the median of one cold run of the trained program lies from that of all at most, as a share."""
    canaries = [_canary(run) for run in runs]
    fastest = min(canaries, default=0.0)
    steady = [run for run, canary in zip(runs, canaries, strict=True) if canary <= fastest * (1 + STEADY)]
    medians = [statistics.median(times) for run in steady if (times := _times(run, name))]
    if len(medians) < 2:
        return 0.0
    middle = statistics.median(medians)
    return max(abs(value / middle - 1) for value in medians)


def _timed(run: Run) -> list[Mapping[str, Any]]:
    return [event for event in run if event["event"] == "repetition" and not event.get("warmup")]


def _canary(run: Run) -> float:
    return statistics.median([event["canary_ns"] for event in _timed(run) if "canary_ns" in event] or [0])


def _times(run: Run, name: str) -> list[float]:
    metric, _, at = name.partition("@")
    if metric == "prefill_ms":
        return [e["duration_ns"] for e in _timed(run) if e["phase"] == "prefill" and e["length"] == int(at)]
    tokens = [e["token_ns"] for e in _timed(run) if e["phase"] == "decode" and e["context"] == int(at)]
    return [ns for row in tokens for ns in row]


def sentence(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """One sentence for the card."""
    apart = [name for name, found in rows.items() if found["equal"] is False]
    if not rows:
        return "Against random weights nothing could be timed."
    if any(found["equal"] is None for found in rows.values()):
        return "Whether training changed the speed is not known: the device did not hold still."
    if not apart:
        return "Trained weights are as fast as random ones of the same architecture, within noise."
    return f"Trained weights differ in speed from random ones of the same architecture in {', '.join(apart)}."
