"""One contract of ``StudyStore`` over the double in memory, SQLite and PostgreSQL: what the study loop relies on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from fastapi import FastAPI

from contracts.device import DeviceFacts
from contracts.measurement import Verdict
from contracts.states import TRIAL_MOVES, JobState, StudyState, TrialState
from contracts.study import QualityResult, StudySpec
from foundation.errors import HilnasError
from nas.store import StudyStore
from nas.targets import DeviceGroup, groups_of
from server.app import create_app
from server.settings import Settings
from server.store import SqlStudyStore
from tests.databases import empty_database, needs_postgres
from tests.doubles.memory_store import MemoryStore
from tests.server import samples
from tests.server.helpers import AgentClient, local_client

SPEC = samples.spec(objectives=[{"metric": "decode_ms@256"}])


class Bench(Protocol):
    """A store with its devices."""

    store: StudyStore

    def enrol(self, name: str, model: str = "Ryzen 9 9950X") -> str:
        """The id of a device that measures."""
        ...

    def answer(self, device_id: str, verdict: str = "valid", error: str = "", decode_ms: float = 5.0) -> str:
        """The device takes its next job and brings a row, or an error; the job's id."""
        ...


class MemoryBench:
    def __init__(self) -> None:
        self.store = self.memory = MemoryStore(StudySpec.model_validate(SPEC))
        self.memory.devices_now = {}

    def enrol(self, name: str, model: str = "Ryzen 9 9950X") -> str:
        self.memory.devices_now[f"device-{name}"] = DeviceFacts.model_validate(samples.facts(name, model=model))
        return f"device-{name}"

    def answer(self, device_id: str, verdict: str = "valid", error: str = "", decode_ms: float = 5.0) -> str:
        row = samples.as_measurement(verdict=verdict, prefill_ms=20 * decode_ms)
        job = self.memory.next_job(device_id)
        self.memory.answer_job(job, device_id, row.model_copy(update={"plan_digest": job.job.plan.digest}), error)
        return job.record.id


class ServerBench:
    def __init__(self, app: FastAPI) -> None:
        self.app, self.client = app, local_client(app)
        study_id = self.client.post("studies", json=SPEC).json()["id"]
        self.store = SqlStudyStore(app.state.context, study_id)
        self.agents: dict[str, AgentClient] = {}

    def enrol(self, name: str, model: str = "Ryzen 9 9950X") -> str:
        token = self.client.post("devices/tokens", json={}).json()["token"]
        body = {"token": token, "facts": samples.facts(name, model=model)}
        agent = AgentClient(self.app, self.client.post("agents/enrol", json=body).json())
        self.agents[agent.device_id] = agent
        return agent.device_id

    def answer(self, device_id: str, verdict: str = "valid", error: str = "", decode_ms: float = 5.0) -> str:
        agent = self.agents[device_id]
        lease = agent.lease()
        assert lease is not None
        row = samples.measurement(verdict=verdict, prefill_ms=20 * decode_ms)
        outcome = {"error": error} if error else {"measurement": row}
        assert agent.result(lease, **outcome).json()["accepted"]
        return str(lease["job_id"])


class StudyStoreContract:
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[Bench]:
        raise NotImplementedError

    def measuring(self, bench: Bench, number: int = 0) -> tuple[str, DeviceGroup]:
        """A trial in MEASURING, and the first group of devices."""
        trial = bench.store.add_trial({"n": number}, samples.candidate(number))
        for state in (TrialState.PREPARING, TrialState.MEASURING):
            bench.store.update_trial(trial.id, state=state)
        return trial.id, groups_of(bench.store.study().spec, bench.store.devices())[0]

    def test_trials_come_back_as_they_were_added(self, bench: Bench) -> None:
        added = [bench.store.add_trial({"layer_00.mixer": str(n)}, samples.candidate(n)) for n in range(3)]
        found = bench.store.trials()
        assert [trial.id for trial in found] == [trial.id for trial in added]
        assert [trial.number for trial in found] == [0, 1, 2]
        assert [trial.arch for trial in found] == [samples.candidate(n) for n in range(3)]
        assert [trial.arch_digest for trial in found] == [samples.candidate(n).digest for n in range(3)]
        assert {trial.state for trial in found} == {TrialState.PROPOSED}
        assert found[1].assignment == {"layer_00.mixer": "1"}

    def test_a_study_and_its_trials_by_id(self, bench: Bench) -> None:
        assert bench.store.other_study("study-nowhere") is None
        device_id = bench.enrol("desk")
        trial_id, group = self.measuring(bench)
        bench.store.submit(trial_id, group, samples.job())
        bench.answer(device_id)
        found = bench.store.other_study(bench.store.study().id)
        assert found is not None and found[0] == bench.store.study().spec
        assert [trial.id for trial in found[1]] == [trial_id]
        assert [row.block_ms for row in found[1][0].measurements.values()] == [{"prefill:256": {"embedding": 1.0}}]

    def test_what_a_sampler_wrote_comes_back(self, bench: Bench) -> None:
        """Without it a genetic algorithm stays in its first generation for ever."""
        attrs = {"trial": {"generation": 3}, "parents": {"p": [0, 1]}, "name": "lfm2_350m"}
        added = bench.store.add_trial({}, samples.candidate(), attrs)
        assert added.sampler_attrs == bench.store.trials()[0].sampler_attrs == attrs

    def test_trials_by_state_and_by_id(self, bench: Bench) -> None:
        added = [bench.store.add_trial({"n": n}, samples.candidate(n)).id for n in range(3)]
        bench.store.update_trial(added[1], state=TrialState.PREPARING)
        chosen = lambda **which: [trial.id for trial in bench.store.trials(**which)]  # noqa: E731
        assert chosen(states=[TrialState.PROPOSED]) == [added[0], added[2]]
        assert chosen(states=[TrialState.PREPARING, TrialState.FAILED]) == [added[1]]
        assert chosen(ids=[added[2], added[0]]) == [added[0], added[2]]
        assert chosen(ids=[]) == chosen(states=[]) == []

    def test_an_update_changes_what_is_given_and_nothing_else(self, bench: Bench) -> None:
        trial = bench.store.add_trial({}, samples.candidate())
        bench.store.update_trial(trial.id, costs={"params": 5.0}, reason="because")
        bench.store.update_trial(trial.id, blocks=["ab" * 32])
        changed = bench.store.update_trial(trial.id, values={"decode_ms@256": 5.0})
        assert bench.store.trials() == [changed]
        assert (changed.costs, changed.reason, changed.blocks) == ({"params": 5.0}, "because", ["ab" * 32])
        assert bench.store.update_trial(trial.id, costs={"params": 6.0}).costs == {"params": 6.0}
        assert bench.store.update_trial(trial.id, reason="").reason == ""

    def test_artifacts_are_added_to_those_there_are(self, bench: Bench) -> None:
        trial = bench.store.add_trial({}, samples.candidate())
        bench.store.update_trial(trial.id, artifacts={"one_piece": "a", "onnx": "b"})
        assert bench.store.update_trial(trial.id, artifacts={"one_piece": "c"}).artifacts == {
            "one_piece": "c", "onnx": "b",
        }  # fmt: skip

    def test_only_moves_of_the_table_are_allowed(self, bench: Bench) -> None:
        for number, goal in enumerate(TrialState):
            trial = bench.store.add_trial({}, samples.candidate(number))
            if goal is TrialState.PROPOSED or goal in TRIAL_MOVES[TrialState.PROPOSED]:
                assert bench.store.update_trial(trial.id, state=goal).state is goal
            else:
                with pytest.raises(HilnasError, match="proposed and cannot become"):
                    bench.store.update_trial(trial.id, state=goal)

    def test_a_job_is_queued_once_and_answered_once(self, bench: Bench) -> None:
        device = bench.enrol("a")
        trial_id, group = self.measuring(bench)
        job_id = bench.store.submit(trial_id, group, samples.job())
        assert bench.store.submit(trial_id, group, samples.job()) == job_id
        (job,) = bench.store.open_jobs()
        assert (job.id, job.trial_id, job.form, job.state) == (job_id, trial_id, "composed", JobState.QUEUED)
        assert group.queued_as(job)
        assert (job.pool, job.device_id) == (group.fingerprint, None)
        assert bench.answer(device) == job_id
        assert bench.store.open_jobs() == bench.store.failed_jobs(trial_id) == []
        (trial,) = bench.store.trials()
        assert group.row(trial.measurements) is trial.measurements[device]
        assert trial.measurements[device].metrics["decode_ms@256"].median == 5.0
        assert bench.store.submit(trial_id, group, samples.job()) == job_id, "answered is not queued again"
        assert bench.store.open_jobs() == []

    def test_attempt_group_and_trial_make_another_job(self, bench: Bench) -> None:
        device = bench.enrol("a")
        trial_id, group = self.measuring(bench)
        other_trial, _ = self.measuring(bench, 1)
        alone, named = DeviceGroup("", group.fingerprint, device), DeviceGroup("desk", group.fingerprint)
        ids = [
            bench.store.submit(trial_id, group, samples.job()),
            bench.store.submit(trial_id, group, samples.job(attempt=1)),
            bench.store.submit(trial_id, group, samples.job(form="one_piece")),
            bench.store.submit(trial_id, alone, samples.job()),
            bench.store.submit(trial_id, named, samples.job()),
            bench.store.submit(other_trial, group, samples.job()),
        ]
        assert [job.id for job in bench.store.open_jobs()] == ids
        assert [alone.queued_as(job) for job in bench.store.open_jobs()] == [False, False, False, True, False, False]
        assert [named.queued_as(job) for job in bench.store.open_jobs()] == [False, False, False, False, True, False]

    def test_a_failed_job_says_why(self, bench: Bench) -> None:
        device = bench.enrol("a")
        trial_id, group = self.measuring(bench)
        job_id = bench.store.submit(trial_id, group, samples.job())
        bench.answer(device, error="the block does not load")
        (job,) = bench.store.failed_jobs(trial_id)
        assert (job.id, job.error, job.state) == (job_id, "the block does not load", JobState.FAILED)
        assert bench.store.failed_jobs(self.measuring(bench, 1)[0]) == []

    def test_a_valid_row_is_not_replaced_by_one_that_is_not(self, bench: Bench) -> None:
        device = bench.enrol("a")
        trial_id, group = self.measuring(bench)
        for attempt, verdict in enumerate(["noisy", "valid", "throttled"]):
            bench.store.submit(trial_id, group, samples.job(attempt=attempt))
            bench.answer(device, verdict)
            row = group.row(bench.store.trials()[0].measurements)
            assert row is not None
            assert row.verdict == ("noisy" if attempt == 0 else "valid")

    def test_forms_are_kept_apart(self, bench: Bench) -> None:
        device = bench.enrol("a")
        trial_id, group = self.measuring(bench)
        bench.store.submit(trial_id, group, samples.job(form="one_piece"))
        bench.answer(device)
        (trial,) = bench.store.trials()
        assert (list(trial.measurements), list(trial.confirmed)) == ([], [device])

    def test_a_valid_row_is_found_and_attached_once(self, bench: Bench) -> None:
        device = bench.enrol("a")
        trial_id, group = self.measuring(bench)
        digest = samples.plan().digest
        bench.store.submit(trial_id, group, samples.job())
        assert bench.store.find_measurement(digest, group.fingerprint) is None
        bench.answer(device)
        found = bench.store.find_measurement(digest, group.fingerprint)
        assert found is not None
        assert (found.verdict, found.device_id, found.fingerprint) == (Verdict.VALID, device, group.fingerprint)
        assert bench.store.find_measurement(digest, "another") is None
        assert bench.store.find_measurement("another", group.fingerprint) is None
        other_trial, _ = self.measuring(bench, 1)
        named = DeviceGroup("desk", group.fingerprint)
        for _ in range(2):
            bench.store.attach_measurement(other_trial, named, found)
        other = bench.store.trials()[1]
        assert list(other.measurements) == [f"desk:{device}"]
        assert named.row(other.measurements) is not None
        assert group.row(other.measurements) is None

    def test_a_row_that_is_not_valid_is_not_found(self, bench: Bench) -> None:
        device = bench.enrol("a")
        trial_id, group = self.measuring(bench)
        bench.store.submit(trial_id, group, samples.job())
        bench.answer(device, "noisy")
        assert bench.store.find_measurement(samples.plan().digest, group.fingerprint) is None

    def test_the_avoided_device_does_not_answer_while_it_has_a_peer(self, bench: Bench) -> None:
        first, second = bench.enrol("a"), bench.enrol("b")
        trial_id, group = self.measuring(bench)
        bench.store.submit(trial_id, group, samples.job(), avoid=first)
        (job,) = bench.store.open_jobs()
        assert group.queued_as(job)
        bench.answer(second)
        assert list(bench.store.trials()[0].measurements) == [second]

    def test_devices_of_another_kind_are_another_group(self, bench: Bench) -> None:
        one, other = bench.enrol("a"), bench.enrol("b", model="another CPU")
        assert set(bench.store.devices()) == {one, other}
        assert len(groups_of(bench.store.study().spec, bench.store.devices())) == 2

    def test_judgements_are_found_again(self, bench: Bench) -> None:
        result = QualityResult(estimator="fake", score=0.5, low=0.4, high=0.6, tasks={"copy": 0.5}, seeds=[0])
        assert bench.store.find_quality("digest", "key") is None
        bench.store.record_quality("digest", "key", result)
        bench.store.record_quality("digest", "key", result)
        assert bench.store.find_quality("digest", "key") == result
        assert bench.store.find_quality("digest", "other") is bench.store.find_quality("other", "key") is None
        trial = bench.store.add_trial({}, samples.candidate())
        assert bench.store.update_trial(trial.id, quality=result).quality == result

    def test_a_file_is_named_by_its_content(self, bench: Bench, tmp_path: Path) -> None:
        path = tmp_path / "block"
        path.write_bytes(b"a program")
        digest = hashlib.sha256(b"a program").hexdigest()
        assert [bench.store.put_artifact(path, "application/x-executorch") for _ in range(2)] == [digest, digest]

    def test_the_end_is_final(self, bench: Bench) -> None:
        assert not bench.store.stop_requested()
        bench.store.set_reference_point({"decode_ms@256": 9.0})
        bench.store.emit("looked_around", state="well", event_of=1)
        bench.store.finish(StudyState.FINISHED, "all done")
        study = bench.store.study()
        assert (study.state, study.reason, study.reference_point) == (
            StudyState.FINISHED, "all done", {"decode_ms@256": 9.0},
        )  # fmt: skip
        assert bench.store.stop_requested()
        bench.store.finish(StudyState.FAILED, "and again")
        assert bench.store.study().reason == "all done"


class TestMemoryStore(StudyStoreContract):
    @pytest.fixture
    def bench(self) -> Iterator[Bench]:  # type: ignore[override]
        yield MemoryBench()


class TestSqliteStore(StudyStoreContract):
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[Bench]:
        yield from server_bench("sqlite", tmp_path)


@needs_postgres
class TestPostgresStore(StudyStoreContract):
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[Bench]:
        yield from server_bench("postgresql", tmp_path)


def server_bench(kind: str, folder: Path) -> Iterator[Bench]:
    app = create_app(Settings(var=folder, database_url=empty_database(kind, folder)), supervise=False)
    yield ServerBench(app)
    app.state.context.database.dispose()
