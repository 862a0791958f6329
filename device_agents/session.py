"""A measurement's life, top to bottom: cold runs, parity, samples, estimates, re-measurement, verdict."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from contracts.job import MeasureJob
from contracts.measurement import Estimate, Measurement, Verdict
from contracts.plan import Plan
from contracts.runner_events import (
    ErrorEvent,
    LoadEvent,
    MemoryEvent,
    RepetitionEvent,
    RunnerEvent,
    SpoiledEvent,
    records,
)
from device_agents.canary import CanaryBook
from device_agents.devices.base import Device
from device_agents.statistics import drift_factor, estimate, percentile
from foundation.errors import DeviceLost, RunnerCrashed

MAX_RUN_DRIFT = 0.15  # a cold run whose canary is slower than the fastest run's by more is set aside
MAX_SESSION_DRIFT = 0.5  # a session this much slower than the device's reference is beyond correction
UNFIT = frozenset({Verdict.HOT_START, Verdict.LOW_BATTERY, Verdict.WRONG_CLOCK})
ERROR_VERDICTS = {
    "check_failed": Verdict.PARITY_FAILED,
    "out_of_memory": Verdict.OUT_OF_MEMORY,
    "wrong_core": Verdict.WRONG_CORE,
}


@dataclass
class Samples:
    """The samples of one cold run, or of several joined, in milliseconds."""

    by_metric: dict[str, list[float]] = field(default_factory=dict)
    blocks: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    outside: dict[str, list[float]] = field(default_factory=dict)
    canary: list[float] = field(default_factory=list)
    peak_rss: list[float] = field(default_factory=list)
    cores: set[int] = field(default_factory=set)
    forward_s: float = 0.0
    spoiled: tuple[Verdict, str] | None = None  # the device's conditions changed: verdict and reason

    @property
    def canary_ms(self) -> float:
        """Median canary time, 0 without a canary."""
        return statistics.median(self.canary) if self.canary else 0.0


@dataclass
class Session:
    """The cold runs of one plan so far. ``events`` keeps all of them, including those set aside."""

    runs: list[Samples] = field(default_factory=list)
    events: list[list[RunnerEvent]] = field(default_factory=list)

    def clean(self) -> list[Samples]:
        """Runs that the device did not spoil and whose canary was within MAX_RUN_DRIFT of the fastest run's: in the
        others the machine was busy."""
        steady = [run for run in self.runs if run.spoiled is None]
        fastest = min((run.canary_ms for run in steady), default=0.0)
        return [run for run in steady if run.canary_ms <= fastest * (1 + MAX_RUN_DRIFT)]

    @property
    def unfit(self) -> bool:
        """The device cannot measure now: another run would fail the same way."""
        return any(run.spoiled and run.spoiled[0] in UNFIT for run in self.runs)

    def joined(self) -> Samples:
        """All samples of the clean runs together."""
        joined = Samples()
        for run in self.clean():
            for key, values in run.by_metric.items():
                joined.by_metric.setdefault(key, []).extend(values)
            for phase, steps in run.blocks.items():
                for name, values in steps.items():
                    joined.blocks.setdefault(phase, {}).setdefault(name, []).extend(values)
            for phase, shares in run.outside.items():
                joined.outside.setdefault(phase, []).extend(shares)
            joined.canary += run.canary
            joined.peak_rss += run.peak_rss
            joined.cores |= run.cores
        joined.forward_s = sum(run.forward_s for run in self.runs)
        return joined


def measure(
    job: MeasureJob, device: Device, canaries: CanaryBook, cancelled: Callable[[], bool] = lambda: False
) -> Measurement:
    """Measures ``job.plan``, alternating with ``job.beside`` if given. Returns a row in any case, with a verdict.

    Raises only DeviceLost: then there is no result, and the job goes back to the queue.
    """
    start = time.monotonic()
    environment = {"before": device.environment()}
    session, beside = Session(), Session()
    try:
        while needs_another_run(session, job):
            take_run(job.plan, device, session, cancelled)
            if job.beside is not None and not session.unfit:
                take_run(job.beside, device, beside, cancelled)
    except RunnerCrashed as error:
        return failed_row(job.plan, error, session, environment, start)
    environment["after"] = device.environment()
    try:
        return summarize(job, session, beside, canaries, environment, time.monotonic() - start)
    except ValidationError as error:
        what = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        return failed_row(job.plan, RunnerCrashed("implausible", what), session, environment, start)


def summarize(
    job: MeasureJob,
    session: Session,
    beside: Session,
    canaries: CanaryBook,
    environment: dict[str, Any],
    wall_s: float,
) -> Measurement:
    """The row of a session whose runs all succeeded."""
    samples = session.joined()
    reference = canaries.reference(job.plan, samples.canary)
    factor = drift_factor(samples.canary, reference)
    verdict, reason = verdict_of(session, samples, job, reference)
    return Measurement(
        plan_digest=job.plan.digest,
        protocol=job.plan.protocol.name,
        verdict=verdict,
        reason=reason,
        metrics=estimates(samples, factor),
        beside=estimates(beside.joined(), factor),
        block_ms=block_medians(samples),
        outside_xnnpack={phase: statistics.median(shares) for phase, shares in samples.outside.items()},
        canary=canary_row(samples, reference, factor),
        environment=environment,
        events=[records(run) for run in session.events],
        cold_repeats=len(session.runs),
        wall_s=wall_s,
        forward_s=samples.forward_s,
    )


def needs_another_run(session: Session, job: MeasureJob) -> bool:
    """True while there are too few clean runs or an interval is too wide, up to ``max_repeats`` cold runs."""
    if session.unfit:
        return False
    clean = len(session.clean())
    if clean < job.cold_repeats:
        return len(session.runs) < max(job.cold_repeats, job.max_repeats)
    return widest(session.joined()) > job.max_half_width and len(session.runs) < job.max_repeats


def take_run(plan: Plan, device: Device, session: Session, cancelled: Callable[[], bool]) -> None:
    """One cold run: a fresh process that loads, passes the parity check, warms up and is timed."""
    if cancelled():
        raise DeviceLost("the job was cancelled")
    try:
        events = device.run(plan, cancelled)
    except RunnerCrashed as error:
        if error.runner_code != "killed" or cancelled():
            raise
        events = device.run(plan, cancelled)  # a runner killed from outside is not the plan's fault: try once more
    session.events.append(events)
    last = events[-1]
    if isinstance(last, ErrorEvent):
        raise RunnerCrashed(last.code, last.message)
    session.runs.append(collect(events, plan))


def collect(events: list[RunnerEvent], plan: Plan) -> Samples:
    """The samples of one run's events; warm-up repetitions (and the cold canary before them) do not count."""
    samples = Samples(forward_s=getattr(events[-1], "forward_ns", 0) / 1e9)
    for event in events:
        match event:
            case LoadEvent(load_ns=int(load_ns)):
                _add(samples, "load_ms", load_ns / 1e6)
            case SpoiledEvent():
                samples.spoiled = event.verdict, event.reason
            case MemoryEvent():
                samples.peak_rss.append(float(event.vm_hwm_bytes))
            case RepetitionEvent():
                _collect_machine(event, samples)
                if not event.warmup and event.phase in ("prefill", "decode"):  # first_token is not a metric
                    _collect_repetition(event, plan, samples)
    return samples


def _collect_machine(event: RepetitionEvent, samples: Samples) -> None:
    if event.canary_ns is not None and not event.warmup:
        samples.canary.append(event.canary_ns / 1e6)
    if event.cpu is not None:
        samples.cores.add(event.cpu)


def _collect_repetition(event: RepetitionEvent, plan: Plan, samples: Samples) -> None:
    if event.phase == "prefill":
        phase = f"prefill@{event.length}"
        _add(samples, f"prefill_ms@{event.length}", event.duration_ns / 1e6)
        num_tokens = 1
    else:
        phase = f"decode@{event.context}"
        tokens = [ns / 1e6 for ns in event.token_ns]
        samples.by_metric.setdefault(f"decode_ms@{event.context}", []).extend(tokens)
        num_tokens = max(1, len(tokens))
    if event.custom_ns is not None and event.duration_ns:
        samples.outside.setdefault(phase, []).append(event.custom_ns / event.duration_ns)
    for step, ns in zip(plan.chain, event.block_ns, strict=False):
        samples.blocks.setdefault(phase, {}).setdefault(step.name, []).append(ns / 1e6 / num_tokens)


def widest(samples: Samples) -> float:
    """The largest half width over median among the timed metrics (except loading, which is one sample per run)."""
    rows = [estimate(x, "ms") for key, x in samples.by_metric.items() if key != "load_ms"]
    return max((row.half_width for row in rows), default=1.0)


def verdict_of(session: Session, samples: Samples, job: MeasureJob, reference_ms: float) -> tuple[Verdict, str]:
    """The verdict of a completed session, with a reason unless it is valid."""
    allowed, runs = job.plan.protocol.affinity, len(session.runs)
    if allowed and not samples.cores <= set(allowed):
        return Verdict.WRONG_CORE, f"ran on cores {sorted(samples.cores)}, the plan allows {allowed}"
    clean = len(session.clean())
    if clean < job.cold_repeats and (spoiled := [run.spoiled for run in session.runs if run.spoiled]):
        return spoiled[0]  # the first: a phone that throttled is too hot for the next runs
    if clean < job.cold_repeats:
        return Verdict.DRIFTED, f"only {clean} of {runs} cold runs had a steady canary, {job.cold_repeats} are needed"
    if reference_ms and samples.canary_ms > reference_ms * (1 + MAX_SESSION_DRIFT):
        return Verdict.DRIFTED, (
            f"the canary took {samples.canary_ms:.2f} ms, {samples.canary_ms / reference_ms:.1f} times its reference"
        )
    if widest(samples) > job.max_half_width:
        return Verdict.NOISY, (
            f"an interval is still {widest(samples):.1%} wide after {runs} cold runs (allowed {job.max_half_width:.1%})"
        )
    return Verdict.VALID, ""


def estimates(samples: Samples, factor: float) -> dict[str, Estimate]:
    """Metrics of the row. Only prefill gets the canary's correction: both are compute-bound. Decoding is bound by
    memory bandwidth, which the canary does not measure."""
    rows: dict[str, Estimate] = {}
    for key, values in samples.by_metric.items():
        rows[key] = estimate(values, "ms", factor if key.startswith("prefill_ms") else 1.0)
        name, _, context = key.partition("@")
        if name == "prefill_ms":
            rows[f"ttft_ms@{context}"] = rows[key]
            rows |= _rate(f"prefill_tok_s@{context}", rows[key], int(context))
        elif name == "decode_ms":
            rows |= _rate(f"decode_tok_s@{context}", rows[key], 1)
            rows[f"itl_ms_p50@{context}"] = rows[key]
            rows[f"itl_ms_p95@{context}"] = _single(percentile(values, 0.95), "ms", len(values))
    if samples.peak_rss:
        rows["peak_rss_bytes"] = _single(max(samples.peak_rss), "bytes", len(samples.peak_rss))
    return rows


def block_medians(samples: Samples) -> dict[str, dict[str, float]]:
    return {
        phase: {name: statistics.median(values) for name, values in steps.items()}
        for phase, steps in samples.blocks.items()
    }


def canary_row(samples: Samples, reference: float, factor: float) -> dict[str, float]:
    if not samples.canary:
        return {}
    median = statistics.median(samples.canary)
    drift = median / reference - 1 if reference else 0.0
    return {"median_ms": median, "reference_ms": reference, "drift": drift, "factor": factor}


def failed_row(
    plan: Plan, error: RunnerCrashed, session: Session, environment: dict[str, Any], start: float
) -> Measurement:
    """Runs before the failure are kept as raw events only, without metrics."""
    return Measurement(
        plan_digest=plan.digest,
        protocol=plan.protocol.name,
        verdict=ERROR_VERDICTS.get(error.runner_code, Verdict.RUNNER_FAILED),
        reason=f"{error.runner_code}: {error}",
        environment=environment,
        events=[records(run) for run in session.events],
        cold_repeats=len(session.events),
        wall_s=time.monotonic() - start,
    )


def _rate(key: str, time_ms: Estimate, num_tokens: int) -> dict[str, Estimate]:
    """The rate under ``key``; empty if the time may be zero, since such a rate has no upper bound."""
    if time_ms.low <= 0:
        return {}
    rate = lambda ms: 1000.0 * num_tokens / ms  # noqa: E731
    return {
        key: Estimate(
            median=rate(time_ms.median), low=rate(time_ms.high), high=rate(time_ms.low), unit="tok/s",
            num_samples=time_ms.num_samples, raw=rate(time_ms.raw or time_ms.median),
        )
    }  # fmt: skip


def _single(value: float, unit: str, num_samples: int) -> Estimate:
    return Estimate(median=value, low=value, high=value, unit=unit, num_samples=num_samples)


def _add(samples: Samples, key: str, value: float) -> None:
    samples.by_metric.setdefault(key, []).append(value)
