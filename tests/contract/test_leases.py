"""One contract of the queue over both databases: never two live leases of a job, tokens grow, nothing counts twice.

PostgreSQL runs when HILNAS_TEST_POSTGRES_URL names an empty database that may be written to."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import func, select

from contracts.device import DeviceFacts
from contracts.job import Enrolment, Heartbeat, JobResult, Lease
from contracts.states import JobState
from contracts.study import StudySpec
from server.artifacts.storage import ArtifactFiles
from server.auth.service import Agent
from server.context import Context
from server.database import Database
from server.devices import service as devices
from server.devices.schemas import EnrolmentTokenRequest
from server.errors import Conflict
from server.jobs import queue as job_queue
from server.jobs import repository, results
from server.settings import Settings
from server.studies import service as studies
from server.tables import Base, DeviceRow, JobRow, LateResultRow, MeasurementRow, StudyRow
from server.trials import service as trials
from tests.server import samples
from tests.server.helpers import FakeClock

LEASE_S = 60.0


class Queue:
    """A coordinator's queue without HTTP: one study, agents by number, jobs by number."""

    def __init__(self, url: str, folder: Path, num_agents: int = 2) -> None:
        self.clock = FakeClock()
        self.database = Database(url)
        Base.metadata.drop_all(self.database.engine)
        Base.metadata.create_all(self.database.engine)
        config = Settings(var=folder, lease_s=LEASE_S)
        self.ctx = Context(config, self.database, ArtifactFiles(folder / "artifacts"), self.clock)
        with self.database.write() as session:
            self.study_id = studies.create(session, self.ctx, StudySpec.model_validate(samples.spec()), None)[0].id
        self.agents = [self._enrol(f"device-{index}") for index in range(num_agents)]  # all of one fingerprint
        self.pool = DeviceFacts(**samples.facts()).fingerprint
        self.jobs: list[str] = []

    def _enrol(self, name: str, **facts: str) -> Agent:
        with self.database.write() as session:
            token = devices.create_enrolment_token(session, self.ctx, EnrolmentTokenRequest()).token
            enrolment = Enrolment(token=token, facts=DeviceFacts(**samples.facts(name, **facts)))
            credential = devices.enrol(session, self.ctx, enrolment)
        return Agent(credential.agent_id, credential.device_id)

    def submit(self, device: int | None = 0, pool: str | None = None) -> str:
        """None: any device may take it, or any of ``pool``, which is how two agents come to want one job."""
        name = f"trial-{len(self.jobs)}"
        with self.database.write() as session:
            trial = trials.add(session, self.ctx, self.study_id, {}, samples.candidate())
            target = None if device is None else self.agents[device].device_id
            job = samples.job(name).model_copy(update={"plan": samples.with_canary(samples.plan(name))})
            row = job_queue.submit(
                session, self.ctx, study_id=self.study_id, trial_id=trial.id, device_id=target, job=job, pool=pool
            )
        self.jobs.append(row.id)
        return row.id

    def drain(self, agent: int, draining: bool = True) -> None:
        with self.database.write() as session:
            devices.drain(session, self.ctx, self.agents[agent].device_id, draining)

    def states(self, job_ids: Iterable[str]) -> set[str]:
        return {self.row(job_id).state for job_id in job_ids}

    def lease(self, agent: int = 0) -> Lease | None:
        with self.database.write() as session:
            return job_queue.lease(session, self.ctx, self.agents[agent])

    def heartbeat(self, lease: Lease, agent: int = 0) -> bool:
        try:
            with self.database.write() as session:
                job_queue.heartbeat(
                    session, self.ctx, self.agents[agent], lease.job_id, Heartbeat(fencing_token=lease.fencing_token)
                )
        except Conflict:
            return False
        return True

    def finish(self, lease: Lease, agent: int = 0, *, retry: bool = False, canary_ms: float = 10.0) -> bool:
        row = {**samples.measurement(), "canary": {"median_ms": canary_ms, "reference_ms": canary_ms}}
        outcome = {"error": "too hot", "retry": True} if retry else {"measurement": row}
        result = JobResult.model_validate({"fencing_token": lease.fencing_token, **outcome})
        with self.database.write() as session:
            return results.finish(session, self.ctx, self.agents[agent], lease.job_id, result).accepted

    def expire(self) -> int:
        with self.database.write() as session:
            return job_queue.expire(session, self.ctx)

    def row(self, job_id: str) -> JobRow:
        with self.database.read() as session:
            return session.get_one(JobRow, job_id)

    def num_measurements(self, job_id: str) -> int:
        with self.database.read() as session:
            query = select(func.count()).where(MeasurementRow.job_id == job_id)
            return session.scalar(query) or 0

    def num_late(self) -> int:
        with self.database.read() as session:
            return session.scalar(select(func.count()).select_from(LateResultRow)) or 0


class LeaseContract:
    """Both databases pass every test below."""

    @pytest.fixture
    def queue(self, tmp_path: Path) -> Iterator[Queue]:
        raise NotImplementedError

    def test_first_in_first_out_and_each_once(self, queue: Queue) -> None:
        first, second = queue.submit(), queue.submit()
        taken = [queue.lease(), queue.lease(), queue.lease()]
        assert [lease.job_id if lease else None for lease in taken] == [first, second, None]

    def test_a_job_of_another_device_is_not_offered(self, queue: Queue) -> None:
        queue.submit(device=1)
        assert queue.lease(agent=0) is None
        assert queue.lease(agent=1) is not None

    def test_eight_threads_never_share_a_job(self, queue: Queue) -> None:
        jobs = {queue.submit(device=None) for _ in range(12)}
        taken: list[str] = []
        threads = [threading.Thread(target=self._take_all, args=(queue, index % 2, taken)) for index in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(taken) == sorted(jobs)

    def test_a_pool_s_job_goes_to_whichever_equal_device_is_free(self, queue: Queue) -> None:
        jobs = [queue.submit(device=None, pool=queue.pool) for _ in range(3)]
        queue.agents.append(queue._enrol("stranger", model="another"))
        taken = [queue.lease(2), queue.lease(0), queue.lease(1), queue.lease(0), queue.lease(1)]
        assert [lease.job_id if lease else None for lease in taken] == [None, *jobs, None]

    def test_eight_threads_of_two_equal_devices_never_share_a_pool_s_job(self, queue: Queue) -> None:
        jobs = {queue.submit(device=None, pool=queue.pool) for _ in range(12)}
        taken: list[str] = []
        threads = [threading.Thread(target=self._take_all, args=(queue, index % 2, taken)) for index in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(taken) == sorted(jobs)

    def test_a_silent_device_s_job_is_done_by_its_peer(self, queue: Queue) -> None:
        job_id = queue.submit(device=None, pool=queue.pool)
        assert queue.lease(0) is not None
        queue.clock.advance(LEASE_S + 1)
        queue.expire()
        lease = queue.lease(1)
        assert lease is not None
        assert queue.finish(lease, 1)
        assert queue.num_measurements(job_id) == 1

    def test_draining_one_device_leaves_the_pool_to_the_other(self, queue: Queue) -> None:
        shared = [queue.submit(device=None, pool=queue.pool) for _ in range(2)]
        given, own = queue.submit(device=0, pool=queue.pool), queue.submit(device=0)
        queue.drain(0)
        assert queue.states([*shared, given]) == {JobState.QUEUED}
        assert queue.states([own]) == {JobState.FAILED}
        assert queue.lease(0) is None
        first, second = queue.lease(1), queue.lease(1)
        assert {first and first.job_id, second and second.job_id} == set(shared)
        queue.drain(1)
        row = queue.row(given)
        assert (row.state, row.error_code) == (JobState.FAILED, "device_drained")

    def test_in_quarantine_only_own_jobs_are_given(self, queue: Queue) -> None:
        queue.submit(device=None, pool=queue.pool)
        own = queue.submit(device=0)
        with queue.database.write() as session:
            session.get_one(DeviceRow, queue.agents[0].device_id).quarantine = "it is slow"
        lease = queue.lease(0)
        assert lease is not None
        assert lease.job_id == own
        assert queue.lease(0) is None
        assert queue.lease(1) is not None

    def test_a_device_that_is_contradicted_twice_gets_no_more_of_the_pool(self, queue: Queue) -> None:
        jobs = [queue.submit(device=None, pool=queue.pool) for _ in range(5)]
        for agent, canary_ms in ((0, 10.0), (1, 12.0), (1, 12.0)):
            lease = queue.lease(agent)
            assert lease is not None
            assert queue.finish(lease, agent, canary_ms=canary_ms)
        assert [queue.row(job_id).verdict for job_id in jobs[:3]] == ["valid", "unlike_twin", "unlike_twin"]
        assert queue.lease(1) is None
        assert queue.lease(0) is not None
        queue.drain(1, draining=False)
        assert queue.lease(1) is not None

    def test_what_comes_next_is_told_without_taking_it(self, queue: Queue) -> None:
        queue.submit(device=1)
        for _ in range(6):
            queue.submit(device=None, pool=queue.pool)
        stranger = queue._enrol("stranger", model="another")
        with queue.database.read() as session:
            assert job_queue.upcoming(session, queue.ctx, queue.agents[0]) == ["ab" * 32, "cd" * 32, "ef" * 32]
            rows = repository.upcoming(session, queue.agents[0].device_id, queue.pool, ["measure"], 4)
            assert [row.id for row in rows] == queue.jobs[1:5]
            assert job_queue.upcoming(session, queue.ctx, stranger) == []
        assert queue.states(queue.jobs) == {JobState.QUEUED}

    @staticmethod
    def _take_all(queue: Queue, agent: int, taken: list[str]) -> None:
        while lease := queue.lease(agent):
            taken.append(lease.job_id)

    def test_an_expired_lease_goes_back_under_a_higher_token(self, queue: Queue) -> None:
        job_id = queue.submit(device=None)
        old = queue.lease(0)
        assert old is not None
        assert queue.expire() == 0
        queue.clock.advance(LEASE_S + 1)
        assert queue.expire() == 1
        new = queue.lease(1)
        assert new is not None
        assert (new.job_id, new.fencing_token) == (job_id, old.fencing_token + 1)
        assert not queue.heartbeat(old, 0)
        assert not queue.finish(old, 0)
        assert queue.num_late() == 1
        assert queue.finish(new, 1)
        assert queue.num_measurements(job_id) == 1

    def test_a_heartbeat_moves_the_deadline(self, queue: Queue) -> None:
        queue.submit()
        lease = queue.lease()
        assert lease is not None
        for _ in range(3):
            queue.clock.advance(LEASE_S - 1)
            assert queue.heartbeat(lease)
        assert queue.expire() == 0

    def test_a_repeated_result_counts_once(self, queue: Queue) -> None:
        job_id = queue.submit()
        lease = queue.lease()
        assert lease is not None
        assert queue.finish(lease)
        assert queue.finish(lease)
        assert queue.num_measurements(job_id) == 1
        assert queue.num_late() == 0

    def test_the_last_attempt_fails_the_job(self, queue: Queue) -> None:
        job_id = queue.submit()
        for _ in range(3):
            assert queue.lease() is not None
            queue.clock.advance(LEASE_S + 1)
            queue.expire()
        row = queue.row(job_id)
        assert (row.state, row.error) == (JobState.FAILED, "given up after 3 attempts: its agent went silent")

    def test_a_kill_in_mid_transaction_leaves_the_lease_as_it_was(self, queue: Queue) -> None:
        job_id = queue.submit()
        lease = queue.lease()
        assert lease is not None
        with pytest.raises(KeyboardInterrupt), queue.database.write() as session:  # noqa: PT012
            result = JobResult.model_validate({"fencing_token": 1, "measurement": samples.measurement()})
            results.finish(session, queue.ctx, queue.agents[0], job_id, result)
            raise KeyboardInterrupt
        assert (queue.row(job_id).state, queue.num_measurements(job_id)) == (JobState.LEASED, 0)
        assert queue.finish(lease)

    def test_a_restart_of_the_coordinator_costs_no_lease(self, queue: Queue) -> None:
        job_id = queue.submit()
        lease = queue.lease()
        assert lease is not None
        queue.clock.advance(10 * LEASE_S)
        with queue.database.write() as session:
            deadline = queue.clock.now.replace(year=2027)
            assert repository.extend_all_leases(session, deadline) == 1
        assert queue.expire() == 0
        assert queue.finish(lease)
        assert queue.num_measurements(job_id) == 1

    def test_a_stopped_study_takes_its_silent_job_out_of_the_queue(self, queue: Queue) -> None:
        job_id = queue.submit()
        queue.lease()
        with queue.database.write() as session:
            studies.stop(session, queue.ctx, session.get_one(StudyRow, queue.study_id).id)
        queue.clock.advance(LEASE_S + 1)
        queue.expire()
        row = queue.row(job_id)
        assert (row.state, row.submit_key) == (JobState.CANCELLED, None)


class TestSqliteLeases(LeaseContract):
    @pytest.fixture
    def queue(self, tmp_path: Path) -> Iterator[Queue]:
        queue = Queue(f"sqlite:///{tmp_path / 'leases.sqlite3'}", tmp_path)
        yield queue
        queue.database.dispose()


class TestPostgresLeases(LeaseContract):
    @pytest.fixture
    def queue(self, tmp_path: Path, postgres_url: str) -> Iterator[Queue]:
        queue = Queue(postgres_url, tmp_path)
        yield queue
        Base.metadata.drop_all(queue.database.engine)
        queue.database.dispose()


class LeaseMachine(RuleBasedStateMachine):
    """Random histories of two agents and a clock, against three sentences that must hold after every step."""

    folder: Path

    @initialize()
    def start(self) -> None:
        self.queue = Queue("sqlite://", self.folder)
        self.leases: list[tuple[int, Lease]] = []
        self.accepted: set[str] = set()
        self.tokens: dict[str, int] = {}
        self.drained: set[int] = set()

    @rule(shared=st.booleans())
    def submit(self, shared: bool) -> None:
        self.queue.submit(device=None, pool=self.queue.pool if shared else None)

    @rule(agent=st.integers(0, 1), draining=st.booleans())
    def drain(self, agent: int, draining: bool) -> None:
        waiting = [job for job in self.queue.jobs if self.queue.row(job).state == JobState.QUEUED]
        shared = [job for job in waiting if self.queue.row(job).pool]
        self.queue.drain(agent, draining)
        self.drained = self.drained | {agent} if draining else self.drained - {agent}
        expected = JobState.FAILED if draining and len(self.drained) == 2 else JobState.QUEUED
        assert self.queue.states(shared) <= {expected}, "a pool's job fails only when none of its devices is left"

    @rule(agent=st.integers(0, 1))
    def lease(self, agent: int) -> None:
        lease = self.queue.lease(agent)
        assert lease is None or agent not in self.drained, "a drained device gets nothing"
        if lease is not None:
            assert lease.fencing_token > self.tokens.get(lease.job_id, 0), "fencing tokens strictly grow"
            assert lease.job_id not in self.accepted, "a counted job is never handed out again"
            self.tokens[lease.job_id] = lease.fencing_token
            self.leases.append((agent, lease))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), retry=st.booleans())
    def finish(self, data: st.DataObject, retry: bool) -> None:
        agent, lease = data.draw(st.sampled_from(self.leases))
        accepted = self.queue.finish(lease, agent, retry=retry)
        assert not accepted or lease.fencing_token == self.tokens[lease.job_id], "an old lease changes nothing"
        if self.queue.row(lease.job_id).state == JobState.DONE:
            self.accepted.add(lease.job_id)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def heartbeat(self, data: st.DataObject) -> None:
        agent, lease = data.draw(st.sampled_from(self.leases))
        alive = self.queue.heartbeat(lease, agent)
        assert not alive or lease.fencing_token == self.tokens[lease.job_id]

    @rule(seconds=st.sampled_from([1, 30, 61]))
    def time_passes(self, seconds: int) -> None:
        self.queue.clock.advance(seconds)
        self.queue.expire()

    @invariant()
    def each_job_counts_at_most_once(self) -> None:
        for job_id in (getattr(self, "queue", None) and self.queue.jobs) or []:
            row = self.queue.row(job_id)
            assert self.queue.num_measurements(job_id) == (row.state == JobState.DONE)
            assert (row.lease_expires_at is not None) == (row.state == JobState.LEASED), "one live lease, or none"
            assert row.attempts <= 3

    def teardown(self) -> None:
        if hasattr(self, "queue"):
            self.queue.database.dispose()


def test_random_histories_of_leases(tmp_path: Path) -> None:
    LeaseMachine.folder = tmp_path
    bounds = settings(
        max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    run_state_machine_as_test(LeaseMachine, settings=bounds)
