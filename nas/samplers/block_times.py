"""The times of a trial's blocks as a sampler needs them: by layer and sublayer, for each metric that they add up to."""

from __future__ import annotations

import re
from collections.abc import Iterable

from contracts.measurement import Verdict
from contracts.metrics import MetricKey
from contracts.study import StoredMeasurement, TrialFacts

BlockTimes = dict[str, float]
"""``3.mixer`` or ``3.ffn`` -> the step's share of the metric, or of its reciprocal for a speed."""
STEP = re.compile(r"(\d{1,4})\.([A-Za-z0-9_]+)")  # as nas.export.blocks names the steps of a chain
FFN = "swiglu"
DECODE, PREFILL = ("decode_ms", "decode_tok_s", "itl_ms_p50", "itl_ms_p95"), ("prefill_ms", "prefill_tok_s", "ttft_ms")
MAX_STEPS, MAX_MS = 1024, 1e7


def block_times(trial: TrialFacts, keys: Iterable[str]) -> dict[str, BlockTimes]:
    """Metric key -> the times of all steps between embedding and head, from the row whose value counts: of several
    devices the worst. Metrics that are no sum of block times are left out."""
    found = {}
    for key in keys:
        parsed = MetricKey.parse(key)
        row = _decisive(trial.measurements.values(), parsed)
        phase = _phase(parsed)
        if row is not None and phase and (times := _times(row.block_ms.get(phase, {}), _unit(parsed))):
            found[key] = times
    return found


def _decisive(rows: Iterable[StoredMeasurement], key: MetricKey) -> StoredMeasurement | None:
    usable = [
        row for row in rows
        if row.verdict is Verdict.VALID and key.base in row.metrics and (not key.target or row.target == key.target)
    ]  # fmt: skip
    sign = 1 if key.metric.direction == "min" else -1
    return max(usable, key=lambda row: sign * row.metrics[key.base].median, default=None)


def _phase(key: MetricKey) -> str:
    if key.metric.name in DECODE:
        return f"decode@{key.context}"
    return f"prefill@{key.context}" if key.metric.name in PREFILL else ""


def _unit(key: MetricKey) -> float:
    """What a millisecond is worth: a speed's reciprocal is in seconds per token."""
    if key.metric.name == "prefill_tok_s":
        return 1e-3 / (key.context or 1)
    return 1e-3 if key.metric.name == "decode_tok_s" else 1.0


def _times(steps: dict[str, float], unit: float) -> BlockTimes:
    """Names and times come from an agent: what is no step of a chain is left out."""
    found: BlockTimes = {}
    for name, ms in list(steps.items())[:MAX_STEPS]:
        match = STEP.fullmatch(name)
        if match and 0 <= ms <= MAX_MS:
            found[f"{int(match[1])}.{'ffn' if match[2] == FFN else 'mixer'}"] = float(f"{ms * unit:.5g}")
    return found
