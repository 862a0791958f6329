"""A measurement session over recorded runs: every verdict, re-measuring, interleaving, the canary's correction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from contracts.job import MeasureJob
from contracts.measurement import Measurement, Verdict
from contracts.plan import Cache, Canary, Plan, Protocol, Step
from contracts.runner_events import RunnerEvent
from device_agents.canary import CanaryBook
from device_agents.devices.replay import ReplayDevice
from device_agents.session import measure
from foundation.errors import DeviceLost
from tests.server import samples

MS = 1_000_000
STEPS = ("embedding", "layer_00.mixer", "head")
LOST, KILLED = {"fail": "device_lost"}, {"fail": "killed"}


def plan_of(*names: str, affinity: list[int] | None = None, canary: bool = True) -> Plan:
    steps = [Step(block=name.encode().hex().rjust(64, "0"), role="mixer", name=name) for name in names or STEPS]
    reference = Canary(chain=steps[:1], hidden_size=64, cache=Cache(capacity=64)) if canary else None
    protocol = Protocol(prefill_lengths=[100], decode_contexts=[100], decode_tokens=2, affinity=affinity)
    return Plan(
        id="plan", chain=steps, cache=Cache(capacity=256), hidden_size=64, vocab_size=256, protocol=protocol,
        tokens=[1], canary=reference,
    )  # fmt: skip


def run_of(
    prefill: list[float], decode: float = 2.0, canary: float = 10.0, cpu: int | None = None
) -> list[dict[str, Any]]:
    """One cold run: a warm-up that must not count, then a prefill per entry and a decode of two tokens."""
    core = {} if cpu is None else {"cpu": cpu}
    repetition = {"event": "repetition", "canary_ns": int(canary * MS), **core}
    warmup = {**repetition, "phase": "prefill", "length": 100, "duration_ns": 999 * MS, "warmup": True}
    prefills = [
        {**repetition, "phase": "prefill", "length": 100, "duration_ns": int(ms * MS), "block_ns": [MS, 2 * MS, 3 * MS]}
        for ms in prefill
    ]
    tokens = {
        **repetition, "phase": "decode", "context": 100, "duration_ns": int(2 * decode * MS),
        "token_ns": [int(decode * MS)] * 2, "block_ns": [2 * MS, 4 * MS, 6 * MS],
    }  # fmt: skip
    memory = {"event": "memory", "vm_hwm_bytes": 1000 + len(prefill)}
    end = {"event": "end", "forward_ns": 500 * MS}
    return [{"event": "load", "load_ns": 50 * MS}, warmup, *prefills, tokens, memory, end]


def failing(code: str) -> list[dict[str, Any]]:
    return [{"event": "load", "load_ns": MS}, {"event": "error", "code": code, "message": "in words"}]


STEADY = run_of([100, 100, 101])
WIDE = run_of([100, 140, 180])


class Spy(ReplayDevice):
    """Remembers which chain ran when."""

    def __init__(self, trace: dict[str, Any]) -> None:
        super().__init__(trace)
        self.ran: list[str] = []

    def run(self, plan: Plan, cancelled: Callable[[], bool]) -> list[RunnerEvent]:
        self.ran.append(plan.chain[0].name)
        return super().run(plan, cancelled)


def device_of(*runs: Any) -> Spy:
    return Spy({"facts": {**samples.facts(), "kind": "replay"}, "default": list(runs)})


def test_a_valid_row() -> None:
    job = MeasureJob(plan=plan_of())
    row = measure(job, device_of(STEADY), CanaryBook())
    assert (row.verdict, row.reason, row.cold_repeats) == (Verdict.VALID, "", 1)
    assert row.plan_digest == job.plan.digest
    assert row.metrics["prefill_ms@100"].median == 100
    assert row.metrics["ttft_ms@100"] == row.metrics["prefill_ms@100"]
    assert row.metrics["prefill_tok_s@100"].median == pytest.approx(1000)
    assert row.metrics["decode_ms@100"].median == row.metrics["itl_ms_p50@100"].median == 2
    assert row.metrics["decode_tok_s@100"].median == pytest.approx(500)
    assert row.metrics["load_ms"].median == 50
    assert row.metrics["peak_rss_bytes"].median == 1003
    assert row.block_ms["prefill@100"] == {"embedding": 1, "layer_00.mixer": 2, "head": 3}
    assert row.block_ms["decode@100"] == {"embedding": 1, "layer_00.mixer": 2, "head": 3}
    assert row.events == [STEADY]
    assert row.forward_s == pytest.approx(0.5)
    assert row.environment == {"before": {"replay": True}, "after": {"replay": True}}


def test_intervals_of_rates_are_turned() -> None:
    rate = measure(MeasureJob(plan=plan_of()), device_of(STEADY), CanaryBook()).metrics["prefill_tok_s@100"]
    assert rate.low < rate.median <= rate.high
    assert rate.unit == "tok/s"


def test_a_rate_whose_time_may_be_zero_has_no_upper_bound_and_is_left_out() -> None:
    row = measure(MeasureJob(plan=plan_of(), max_repeats=1), device_of(run_of([1, 300])), CanaryBook())
    assert (row.verdict, row.metrics["prefill_ms@100"].low) == (Verdict.NOISY, 0)
    assert "prefill_tok_s@100" not in row.metrics


def test_rows_of_agents_that_wrote_zero_for_that_bound_stay_readable() -> None:
    rate = {"median": 6.0, "low": 2.0, "high": 0.0, "unit": "tok/s", "num_samples": 2}
    time = {"median": 150.0, "low": 0.0, "high": 900.0, "unit": "ms", "num_samples": 2}
    metrics = {"prefill_tok_s@100": rate, "prefill_ms@100": time}
    row = Measurement(plan_digest="a", protocol="quick", verdict="noisy", metrics=metrics)
    assert list(row.metrics) == ["prefill_ms@100"]
    assert row.unknown_metrics == {"prefill_tok_s@100": rate}
    with pytest.raises(ValidationError, match="does not contain its median"):
        Measurement(plan_digest="a", protocol="quick", verdict="noisy", metrics={"prefill_ms@100": rate})


def test_a_runner_that_reports_what_cannot_be_is_a_failed_row() -> None:
    """Not the end of the agent: the next job is another candidate's."""
    claimed = [{**event, "vm_hwm_bytes": 2**62} if event["event"] == "memory" else event for event in STEADY]
    row = measure(MeasureJob(plan=plan_of()), device_of(claimed), CanaryBook())
    assert (row.verdict, row.metrics) == (Verdict.RUNNER_FAILED, {})
    assert row.reason.startswith("implausible: no device measures peak_rss_bytes between 4.61169e+18")
    assert row.events == [claimed]


def test_a_wide_interval_is_measured_again_until_it_is_not() -> None:
    """More samples narrow it: wide once, then steady runs."""
    row = measure(MeasureJob(plan=plan_of(), max_repeats=6), device_of(run_of([100, 115]), STEADY), CanaryBook())
    assert row.verdict is Verdict.VALID
    assert 1 < row.cold_repeats < 6
    assert row.metrics["prefill_ms@100"].num_samples == 2 + 3 * (row.cold_repeats - 1)


@pytest.mark.parametrize("max_repeats", [1, 2, 4])
def test_noisy_after_the_last_repeat(max_repeats: int) -> None:
    device = device_of(WIDE)
    row = measure(MeasureJob(plan=plan_of(), max_repeats=max_repeats), device, CanaryBook())
    assert row.verdict is Verdict.NOISY
    assert f"after {max_repeats} cold runs" in row.reason
    assert len(device.ran) == row.cold_repeats == len(row.events) == max_repeats
    assert row.metrics["prefill_ms@100"].median == 140


def test_cold_repeats_are_taken_though_the_first_was_narrow() -> None:
    row = measure(MeasureJob(plan=plan_of(), cold_repeats=3), device_of(STEADY), CanaryBook())
    assert (row.verdict, row.cold_repeats) == (Verdict.VALID, 3)


def test_a_run_beside_somebody_is_set_aside() -> None:
    """The slow run's canary tells on it; its samples do not count, its events are kept."""
    slow = run_of([200, 200, 201], canary=20)
    row = measure(MeasureJob(plan=plan_of(), cold_repeats=2), device_of(STEADY, slow, STEADY), CanaryBook())
    assert (row.verdict, row.cold_repeats) == (Verdict.VALID, 3)
    assert row.metrics["prefill_ms@100"].raw == 100
    assert row.events == [STEADY, slow, STEADY]


def test_drifted_when_no_two_runs_agree() -> None:
    runs = [run_of([100, 100, 101], canary=canary) for canary in (10, 20, 40, 80)]
    row = measure(MeasureJob(plan=plan_of(), cold_repeats=2, max_repeats=4), device_of(*runs), CanaryBook())
    assert row.verdict is Verdict.DRIFTED
    assert "only 1 of 4" in row.reason


def test_drifted_when_the_device_is_far_from_its_reference() -> None:
    book, plan = CanaryBook(), plan_of()
    measure(MeasureJob(plan=plan), device_of(STEADY), book)
    row = measure(MeasureJob(plan=plan), device_of(run_of([300, 300, 301], canary=30)), book)
    assert row.verdict is Verdict.DRIFTED
    assert "3.0 times its reference" in row.reason


def test_the_canary_corrects_prefill_neither_decoding_nor_bytes() -> None:
    """A device a fifth slower than at its first session: a steady canary takes all of it back from prefill."""
    book, plan = CanaryBook(), plan_of()
    before = measure(MeasureJob(plan=plan), device_of(STEADY), book)
    row = measure(MeasureJob(plan=plan), device_of(run_of([120, 120, 121], decode=2.4, canary=12)), book)
    assert row.verdict is Verdict.VALID
    assert row.canary == pytest.approx({"median_ms": 12, "reference_ms": 10, "drift": 0.2, "factor": 10 / 12})
    for key in ("prefill_ms@100", "ttft_ms@100", "prefill_tok_s@100"):
        assert row.metrics[key].median == pytest.approx(before.metrics[key].median, rel=1e-6), key
    assert row.metrics["decode_ms@100"].median == row.metrics["decode_ms@100"].raw == 2.4
    assert row.metrics["prefill_ms@100"].raw == 120
    assert row.metrics["peak_rss_bytes"].median == 1003


def test_without_a_canary_nothing_is_corrected() -> None:
    runs = [[{k: v for k, v in event.items() if k != "canary_ns"} for event in STEADY]]
    row = measure(MeasureJob(plan=plan_of(canary=False)), device_of(*runs), CanaryBook())
    assert (row.verdict, row.canary) == (Verdict.VALID, {})
    assert row.metrics["prefill_ms@100"].median == row.metrics["prefill_ms@100"].raw == 100


def test_the_reference_is_kept_across_restarts(tmp_path) -> None:  # noqa: ANN001
    path, plan = tmp_path / "home" / "canary.json", plan_of()
    measure(MeasureJob(plan=plan), device_of(STEADY), CanaryBook(path))
    row = measure(MeasureJob(plan=plan), device_of(run_of([110, 110, 111], canary=11)), CanaryBook(path))
    assert row.canary["reference_ms"] == 10


def test_a_clearly_faster_session_becomes_the_reference() -> None:
    book, plan = CanaryBook(), plan_of()
    measure(MeasureJob(plan=plan), device_of(run_of([200, 200, 201], canary=20)), book)
    assert measure(MeasureJob(plan=plan), device_of(STEADY), book).canary["reference_ms"] == 10


def test_wrong_core() -> None:
    job = MeasureJob(plan=plan_of(affinity=[0, 1]))
    assert measure(job, device_of(run_of([100, 100, 101], cpu=1)), CanaryBook()).verdict is Verdict.VALID
    row = measure(job, device_of(run_of([100, 100, 101], cpu=5)), CanaryBook())
    assert row.verdict is Verdict.WRONG_CORE
    assert "[5]" in row.reason
    assert "[0, 1]" in row.reason


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("check_failed", Verdict.PARITY_FAILED), ("out_of_memory", Verdict.OUT_OF_MEMORY),
        ("wrong_core", Verdict.WRONG_CORE), ("bad_plan", Verdict.RUNNER_FAILED),
    ],
)  # fmt: skip
def test_the_runner_s_own_errors(code: str, verdict: Verdict) -> None:
    device = device_of(STEADY, failing(code))
    row = measure(MeasureJob(plan=plan_of(), cold_repeats=2), device, CanaryBook())
    assert row.verdict is verdict
    assert row.reason == f"{code}: in words"
    assert row.metrics == {}
    assert row.events == [STEADY, failing(code)]


def test_a_runner_killed_once_is_started_again() -> None:
    row = measure(MeasureJob(plan=plan_of()), device_of(KILLED, STEADY), CanaryBook())
    assert (row.verdict, row.cold_repeats) == (Verdict.VALID, 1)


def test_a_runner_killed_twice_is_told() -> None:
    row = measure(MeasureJob(plan=plan_of()), device_of(KILLED, KILLED), CanaryBook())
    assert row.verdict is Verdict.RUNNER_FAILED
    assert row.reason.startswith("killed: ")


def test_a_lost_device_is_nobody_s_result() -> None:
    with pytest.raises(DeviceLost):
        measure(MeasureJob(plan=plan_of()), device_of(LOST), CanaryBook())


def test_a_cancelled_job_stops_before_the_next_run() -> None:
    device = device_of(WIDE)
    with pytest.raises(DeviceLost, match="cancelled"):
        measure(MeasureJob(plan=plan_of(), max_repeats=9), device, CanaryBook(), lambda: len(device.ran) == 2)
    assert len(device.ran) == 2


def test_two_forms_run_in_turn() -> None:
    whole, composed = plan_of("model"), plan_of("embedding", "head")
    device = Spy(
        {"facts": {**samples.facts(), "kind": "replay"},
         "runs": {"model": [STEADY], "embedding,head": [run_of([150, 150, 151], decode=3)]}}
    )  # fmt: skip
    row = measure(MeasureJob(plan=whole, beside=composed, cold_repeats=3), device, CanaryBook())
    assert device.ran == ["model", "embedding"] * 3
    assert (row.metrics["prefill_ms@100"].median, row.beside["prefill_ms@100"].median) == (100, 150)
    assert (row.metrics["decode_ms@100"].median, row.beside["decode_ms@100"].median) == (2, 3)
    assert row.plan_digest == whole.digest
    assert len(row.events) == 3
