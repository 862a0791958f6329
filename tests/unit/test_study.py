"""The study loop over a store in memory and a workspace without torch work: who is measured, who is judged, how it
ends, and that a loop started anew in any state goes on to the same end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from contracts.device import DeviceFacts
from contracts.job import MeasureJob
from contracts.measurement import Estimate, Measurement, Verdict
from contracts.plan import Check, Plan, Step
from contracts.states import FINISHED_TRIALS, TRIAL_MOVES, StudyState, TrialState
from contracts.study import QualityResult, StoredMeasurement, StudyRecord, StudySpec, TrialRecord
from foundation.errors import ExportFailed
from nas import study as study_module
from nas.study import MAX_SESSIONS, Study
from nas.targets import Group
from search_space.arch import ArchConfig
from search_space.cost import closed_form
from tests.server import samples

CHECK = Check(
    tokens=[1], chunks=[1], probe_ids=[0], expected=[[0.0]], expected_argmax=[0], max_abs_error=1.0
)  # fmt: skip
DEVICES = {"device-1": DeviceFacts.model_validate(samples.facts())}


class Killed(BaseException):
    """kill -9: nothing in the loop may catch it."""


class MemoryStore:
    """``StudyStore`` in dictionaries. Devices answer a job when the study waits for them."""

    def __init__(
        self, spec: StudySpec, answer: Callable[[MeasureJob, int], Verdict] = lambda *_: Verdict.VALID
    ) -> None:
        self.record = StudyRecord(id="study-1", spec=spec, state=StudyState.RUNNING)
        self.rows: dict[str, TrialRecord] = {}
        self.jobs: dict[str, dict[str, Any]] = {}  # submit key -> job
        self.qualities: dict[tuple[str, str], QualityResult] = {}
        self.found: dict[tuple[str, str], Measurement] = {}  # (plan digest, fingerprint) -> a row of another study
        self.num_rows = 0
        self.events: list[str] = []
        self.states: list[tuple[int, TrialState]] = []
        self.answer, self.num_waits, self.stopped = answer, 0, False
        self.devices_now, self.calls_left = dict(DEVICES), 10**9

    def _call(self) -> None:
        """Counts writes, so that a test can kill the loop after any of them."""
        if self.calls_left == 0:
            raise Killed
        self.calls_left -= 1

    def study(self) -> StudyRecord:
        return self.record

    def trials(self) -> list[TrialRecord]:
        return sorted(self.rows.values(), key=lambda trial: trial.number)

    def devices(self) -> dict[str, DeviceFacts]:
        return self.devices_now

    def add_trial(self, assignment: dict[str, Any], arch: dict[str, Any], arch_digest: str) -> TrialRecord:
        self._call()
        number = len(self.rows)
        trial = TrialRecord(
            id=f"trial-{number}", study_id="study-1", number=number, state=TrialState.PROPOSED, assignment=assignment,
            arch=arch, arch_digest=arch_digest,
        )  # fmt: skip
        self.rows[trial.id] = trial
        return trial

    def update_trial(self, trial_id: str, **changes: Any) -> TrialRecord:
        self._call()
        trial = self.rows[trial_id]
        given = {key: value for key, value in changes.items() if value is not None}
        state = given.get("state", trial.state)
        assert state == trial.state or state in TRIAL_MOVES[trial.state], f"{trial.state} -> {state}"
        self.rows[trial_id] = trial.model_copy(update=given)
        self.states.append((trial.number, state))
        return self.rows[trial_id]

    def find_measurement(self, plan_digest: str, fingerprint: str) -> StoredMeasurement | None:
        found = self.found.get((plan_digest, fingerprint))
        whose = {"fingerprint": fingerprint, "device_id": "device-0"}
        return StoredMeasurement.model_validate({**found.model_dump(), **whose}) if found else None

    def find_quality(self, arch_digest: str, key: str) -> QualityResult | None:
        return self.qualities.get((arch_digest, key))

    def record_quality(self, arch_digest: str, key: str, quality: QualityResult) -> None:
        self._call()
        self.qualities[arch_digest, key] = quality

    def attach_measurement(self, trial_id: str, group: Group, found: StoredMeasurement) -> None:
        self._call()
        self.keep(trial_id, "measurements", group, group.device_id or found.device_id, found)

    def keep(self, trial_id: str, role: str, group: Group, device_id: str, row: Measurement) -> None:
        self.num_rows += 1
        given = {"target": group.target, "fingerprint": group.fingerprint, "device_id": device_id,
                 "measured_at": datetime.fromtimestamp(self.num_rows, UTC)}  # fmt: skip
        stored = StoredMeasurement.model_validate({**row.model_dump(), **given})
        trial = self.rows[trial_id]
        self.rows[trial_id] = trial.model_copy(update={role: {**getattr(trial, role), stored.key: stored}})

    def submit(self, trial_id: str, group: Group, job: MeasureJob, avoid: str = "") -> str:
        self._call()
        key = f"{trial_id}|{group}|{job.form}|{job.plan.digest}|{job.attempt}"
        new = {"id": f"job-{len(self.jobs)}", "trial_id": trial_id, "device_id": group.device_id, "form": job.form,
               "pool": None if group.device_id else group.fingerprint, "target": group.target, "state": "queued",
               "job": job, "group": group, "avoid": avoid}  # fmt: skip
        return str(self.jobs.setdefault(key, new)["id"])

    def open_jobs(self) -> list[dict[str, Any]]:
        return [job for job in self.jobs.values() if job["state"] == "queued"]

    def failed_jobs(self, trial_id: str) -> list[dict[str, Any]]:
        return [job for job in self.jobs.values() if job["trial_id"] == trial_id and job["state"] == "failed"]

    def put_artifact(self, path: Path, media_type: str) -> str:
        return path.name

    def emit(self, event: str, **fields: Any) -> None:
        self.events.append(event)

    def set_reference_point(self, point: dict[str, float]) -> None:
        self._call()
        self.record = self.record.model_copy(update={"reference_point": point})

    def finish(self, state: StudyState, reason: str) -> None:
        self._call()
        self.record = self.record.model_copy(update={"state": state, "reason": reason})

    def stop_requested(self) -> bool:
        return self.stopped or self.record.state is not StudyState.RUNNING

    def wait(self, seconds: float) -> None:
        """The devices' turn. A loop that only waits hangs: that is a failure here."""
        self.num_waits += 1
        assert self.num_waits < 500, "the loop hangs"
        for job in self.open_jobs():
            job["state"] = "done"
            role = "confirmed" if job["form"] == "one_piece" else "measurements"
            self.keep(job["trial_id"], role, job["group"], self.taker(job), row_of(job["job"], self.answer))

    def taker(self, job: dict[str, Any]) -> str:
        """The device that leases the job: the first of its group, but for the one it avoids."""
        group: Group = job["group"]
        equal = [one for one, facts in self.devices_now.items() if facts.fingerprint == group.fingerprint]
        return group.device_id or next((one for one in equal if one != job["avoid"]), equal[0])


def row_of(job: MeasureJob, answer: Callable[[MeasureJob, int], Verdict]) -> Measurement:
    """Time follows from the plan; what ``answer`` says is the verdict of this attempt."""
    ms = 1 + int(job.plan.digest[:4], 16) / 65_536
    estimate = Estimate(median=ms, low=ms, high=ms, unit="ms", num_samples=5)
    return Measurement(
        plan_digest=job.plan.digest, protocol="quick", verdict=answer(job, job.attempt), reason="as the test says",
        metrics={"decode_ms@256": estimate},
    )  # fmt: skip


class FakeWorkspace:
    """Everything is compiled at once; quality grows with the share of attention layers."""

    def __init__(self, quality: Callable[[ArchConfig], float] = lambda arch: 0.5, export: str = "works") -> None:
        self.quality, self.export, self.judged = quality, export, list[str]()
        self.library = SimpleNamespace(start=self._start, ready=lambda specs: True, path=lambda digest: Path(digest))
        self.started = 0

    def _start(self, specs: Sequence[Any]) -> list[Any]:
        self.started += 1
        return []

    def specs_of(self, arch: ArchConfig, quantization: str) -> list[str]:
        return [arch.digest]

    def check(self, arch: ArchConfig, quantization: str, cache_dtype: str) -> Check:
        return CHECK

    def canary(self, d_model: int, quantization: str) -> None:
        return None

    def start_quality(self, spec: Any, arch: ArchConfig) -> Future[dict[str, Any]]:
        self.judged.append(arch.digest)
        score = self.quality(arch)
        return done(QualityResult(estimator="fake", score=score, low=score, high=score).model_dump())

    def start_one_piece(self, arch: ArchConfig, quantization: str) -> Future[dict[str, Any]]:
        if self.export == "fails":
            return done(ExportFailed("lower", "no"))
        return done({"digest": "ee" * 32, "check": CHECK.model_dump(), "seconds": 1.0})


def done(outcome: Any) -> Future[dict[str, Any]]:
    future: Future[dict[str, Any]] = Future()
    future.set_exception(outcome) if isinstance(outcome, Exception) else future.set_result(outcome)
    return future


@pytest.fixture(autouse=True)
def no_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains name their architecture instead of compiled blocks."""
    chain = lambda arch, *_: [Step(block=arch.digest, role="model", name="model")]  # noqa: E731
    monkeypatch.setattr(study_module, "chain_of", chain)
    monkeypatch.setattr(study_module, "build_plan", plan_of)
    monkeypatch.setattr(
        study_module, "one_piece_chain", lambda arch, digest: [Step(block=digest, role="model", name="m")]
    )


def plan_of(arch: ArchConfig, chain: list[Step], protocol: Any, cache_dtype: str, check: Check, canary: None) -> Plan:
    return Plan(
        id=arch.digest[:12], chain=chain, cache={"capacity": 2048}, hidden_size=arch.d_model,  # type: ignore[arg-type]
        vocab_size=arch.vocab_size, protocol=protocol, tokens=[1], check=check,
    )  # fmt: skip


def spec_of(*objectives: str, **changes: Any) -> StudySpec:
    keys = objectives or ("decode_ms@256", "memory_bytes@256")
    return StudySpec.model_validate(
        {"name": "study", "space_options": {"depth": 2, "d_model": 64, "vocab_size": 256}, "sampler": "random",
         "protocol": "quick", "objectives": [{"metric": key} for key in keys], "max_trials": 6, "confirm": 0, **changes}
    )  # fmt: skip


def run(store: MemoryStore, workspace: FakeWorkspace | None = None) -> Counter[TrialState]:
    Study(store, workspace or FakeWorkspace()).run()  # type: ignore[arg-type]
    return Counter(trial.state for trial in store.trials())


def test_a_study_runs_to_its_end() -> None:
    store = MemoryStore(spec_of())
    assert run(store) == {TrialState.COMPLETE: 6}
    assert store.record.state is StudyState.FINISHED
    assert store.record.reason.startswith("6 candidates complete")
    assert set(store.record.reference_point) == {"decode_ms@256", "memory_bytes@256"}
    assert len({trial.arch_digest for trial in store.trials()}) == len(store.jobs) == 6


def test_free_budgets_gate_before_any_device() -> None:
    spec = spec_of(max_trials=4, budgets={"params": middle_of("params")})
    store, workspace = MemoryStore(spec), FakeWorkspace()
    states = run(store, workspace)
    assert states[TrialState.GATED] > 0
    assert states[TrialState.COMPLETE] == 4
    gated = [trial for trial in store.trials() if trial.state is TrialState.GATED]
    assert all("over the budget" in trial.reason and "params" in trial.reason for trial in gated)
    assert not {job["trial_id"] for job in store.jobs.values()} & {trial.id for trial in gated}
    assert [state for number, state in store.states if number == gated[0].number] == [TrialState.GATED]


def middle_of(metric: str) -> float:
    """A budget about half of the candidates meet."""
    import random

    from search_space.space import debug_space

    space, rng = debug_space(2, 64, 256), random.Random(0)
    costs = sorted(closed_form(space.decode(space.sample(rng)), metric, None, "8da4w", "fp32") for _ in range(50))
    return float(costs[25])


def test_an_impossible_budget_ends_at_once_with_its_sentence() -> None:
    store = MemoryStore(spec_of(budgets={"memory_bytes@256": 10}))
    assert run(store) == {}
    assert store.record.state is StudyState.FINISHED
    assert "no candidate of debug_space can meet memory_bytes@256 <= 10 bytes: the smallest has" in store.record.reason


def test_nothing_feasible_is_said_with_the_best_seen() -> None:
    store = MemoryStore(spec_of(budgets={"decode_ms@256": 0.5}))
    assert run(store) == {TrialState.INFEASIBLE: 6}
    best = min(row.metrics["decode_ms@256"].median for t in store.trials() for row in t.measurements.values())
    assert store.record.state is StudyState.FINISHED
    assert store.record.reason == f"none of 6 candidates met the budget decode_ms@256 0.5 ms: the best had {best:.6g}"


def test_at_most_max_quality_are_judged() -> None:
    store, workspace = MemoryStore(spec_of("quality", "decode_ms@256", max_quality=2)), FakeWorkspace()
    states = run(store, workspace)
    assert len(workspace.judged) == 2
    assert states[TrialState.COMPLETE] == 2
    assert store.record.state is StudyState.FINISHED


def test_the_beaten_are_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the best quality still possible is known to be low, slower candidates are not worth training."""
    monkeypatch.setattr("nas.front.optimistic_quality", lambda arch, judged: 0.5 if judged else 1.0)
    store, workspace = MemoryStore(spec_of("quality", "decode_ms@256", max_trials=10)), FakeWorkspace()
    states = run(store, workspace)
    assert states[TrialState.DOMINATED] > 0
    assert states[TrialState.DOMINATED] + states[TrialState.COMPLETE] == 10
    assert len(workspace.judged) == states[TrialState.COMPLETE]
    for trial in store.trials():
        assert (trial.quality is None) == (trial.state is TrialState.DOMINATED)
        if trial.state is TrialState.DOMINATED:
            assert "dominated by candidate" in trial.reason


def test_known_rows_and_judgements_are_used_again() -> None:
    spec = spec_of("quality", "decode_ms@256")
    first = MemoryStore(spec)
    run(first)
    second, workspace = MemoryStore(spec), FakeWorkspace()
    second.qualities = first.qualities
    second.found = {
        (row.plan_digest, row.fingerprint): row for trial in first.trials() for row in trial.measurements.values()
    }
    assert run(second, workspace) == {TrialState.COMPLETE: 6}
    assert second.jobs == {}
    assert workspace.judged == []
    assert [trial.values for trial in second.trials()] == [trial.values for trial in first.trials()]


def test_a_spoiled_session_is_taken_again() -> None:
    store = MemoryStore(spec_of(), answer=lambda job, attempt: Verdict.VALID if attempt == 2 else Verdict.NOISY)
    assert run(store) == {TrialState.COMPLETE: 6}
    assert len(store.jobs) == 18


@pytest.mark.parametrize(
    ("verdict", "sessions"), [(Verdict.NOISY, MAX_SESSIONS), (Verdict.PARITY_FAILED, 1), (Verdict.OUT_OF_MEMORY, 1)]
)
def test_a_trial_fails_with_its_verdict(verdict: Verdict, sessions: int) -> None:
    store = MemoryStore(spec_of(max_trials=3), answer=lambda *_: verdict)
    assert run(store) == {TrialState.FAILED: 3}
    assert len(store.jobs) == 3 * sessions
    assert all(trial.reason.startswith(f"verdict {verdict}") for trial in store.trials())
    assert all(trial.values == {} for trial in store.trials())
    assert store.record.state is StudyState.FINISHED


def test_a_failed_judgement_fails_its_trial_only() -> None:
    def quality(arch: ArchConfig) -> float:
        return 0.5

    class Broken(FakeWorkspace):
        def start_quality(self, spec: Any, arch: ArchConfig) -> Future[dict[str, Any]]:
            broken = not self.judged
            return (
                done(MemoryError("no room"))
                if broken and not self.judged.append("x")
                else super().start_quality(spec, arch)
            )

    store = MemoryStore(spec_of("quality", "decode_ms@256"))
    states = run(store, Broken(quality))
    assert states == {TrialState.FAILED: 1, TrialState.COMPLETE: 5}
    (failed,) = [trial for trial in store.trials() if trial.state is TrialState.FAILED]
    assert failed.reason == "quality estimate failed: MemoryError: no room"


def test_a_metric_the_protocol_lacks_is_said() -> None:
    store = MemoryStore(spec_of("decode_ms@512", max_trials=2))
    assert run(store) == {TrialState.FAILED: 2}
    assert store.trials()[0].reason == "the quick protocol does not measure decode_ms@512"


def test_the_winner_is_confirmed_beside_its_composed_form() -> None:
    store = MemoryStore(spec_of(confirm=1))
    run(store)
    (job,) = [job for job in store.jobs.values() if job["form"] == "one_piece"]
    winner = store.rows[job["trial_id"]]
    assert winner.artifacts == {"one_piece": "ee" * 32}
    assert set(winner.confirmed) == set(DEVICES)
    assert job["job"].plan.check == CHECK
    assert job["job"].beside.chain[0].block == winner.arch_digest
    assert store.events.count("one_piece_started") == 1


def test_a_winner_that_cannot_be_exported_ends_the_study_all_the_same() -> None:
    store = MemoryStore(spec_of(confirm=1))
    assert run(store, FakeWorkspace(export="fails")) == {TrialState.COMPLETE: 6}
    assert store.record.state is StudyState.FINISHED
    assert "one_piece_failed" in store.events


def test_a_small_space_ends_when_it_is_exhausted() -> None:
    options = {"depth": 1, "d_model": 64, "vocab_size": 256}
    store = MemoryStore(spec_of(max_trials=50, space_options=options))
    assert run(store) == {TrialState.COMPLETE: 8}
    assert store.record.state is StudyState.FINISHED


def test_without_a_device_it_waits_for_one() -> None:
    store = MemoryStore(spec_of(max_trials=2))
    store.devices_now = {}
    wait = store.wait

    def plug_in(seconds: float) -> None:
        if store.num_waits == 3:
            assert store.jobs == {}
            store.devices_now = dict(DEVICES)
        wait(seconds)

    store.wait = plug_in  # type: ignore[method-assign]
    assert run(store) == {TrialState.COMPLETE: 2}


def test_stopping_keeps_what_was_measured_and_resuming_goes_on() -> None:
    store = MemoryStore(spec_of())
    wait = store.wait

    def stop_soon(seconds: float) -> None:
        wait(seconds)
        store.stopped = store.num_waits == 1

    store.wait = stop_soon  # type: ignore[method-assign]
    run(store)
    assert store.record.state is StudyState.STOPPED
    kept = {trial.id: trial.measurements for trial in store.trials() if trial.measurements}
    assert 0 < len(kept) < 6
    store.record, store.stopped = store.record.model_copy(update={"state": StudyState.RUNNING}), False
    store.wait = wait  # type: ignore[method-assign]
    assert run(store) == {TrialState.COMPLETE: 6}
    assert all(store.rows[trial_id].measurements == rows for trial_id, rows in kept.items())


def test_killed_after_any_write_it_goes_on_to_the_same_end() -> None:
    """Every write may be the last one of a run; the next run starts from the store alone."""
    spec = spec_of("quality", "decode_ms@256", max_trials=4, confirm=1, budgets={"params": middle_of("params")})
    whole = MemoryStore(spec)
    run(whole)
    for num_writes in range(1, 60):
        store, deaths = MemoryStore(spec), 0
        while store.record.state is StudyState.RUNNING and deaths < 200:
            store.calls_left = num_writes
            try:
                run(store)
            except Killed:
                deaths += 1
                store.calls_left = 10**9
        if num_writes < 4:  # so short a life may not reach the next lasting step
            continue
        assert store.record.state is StudyState.FINISHED, num_writes
        states = Counter(trial.state for trial in store.trials())
        assert states[TrialState.COMPLETE] == 4, (num_writes, states)
        assert set(states) <= set(FINISHED_TRIALS)
        assert len({trial.arch_digest for trial in store.trials()}) == len(store.trials())
        assert len(store.jobs) == len(whole.jobs) == 5
        if deaths == 0:
            break
    else:
        pytest.fail("the longest life was too short")
