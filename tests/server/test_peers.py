"""Equal devices check each other by their canary: whose row counts, who is suspected, and how quarantine ends."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from contracts.measurement import Verdict
from contracts.plan import Plan
from contracts.study import StoredMeasurement
from nas.targets import DeviceGroup
from server.context import Context
from server.devices.peers import TOLERANCE, Agreement, CanaryTime, agreement, difference
from server.store import SqlStudyStore
from tests.server import samples
from tests.server.helpers import AgentClient, EnrolAgent, FakeClock, only

TARGET = {"name": "s24", "model": "SM-S921B"}
FACTS: dict[str, Any] = {"kind": "android", "model": "SM-S921B", "arch": "aarch64", "cores": 8}
TIMES = st.floats(1.0, 100.0)
DRIFTS = st.floats(-0.3, 0.5)


def time_of(name: str, median_ms: float, drift: float = 0.0) -> CanaryTime:
    return CanaryTime(name, median_ms, median_ms / (1 + drift))


@given(TIMES, st.floats(0.0, TOLERANCE - 0.01), DRIFTS, DRIFTS)
def test_near_times_agree_whatever_their_drift(median_ms: float, apart: float, drift: float, other: float) -> None:
    own, peer = time_of("a", median_ms * (1 + apart), drift), time_of("b", median_ms, other)
    assert agreement(own, [peer]) is Agreement.AGREES


@given(TIMES, st.floats(TOLERANCE + 0.02, 2.0), DRIFTS, DRIFTS)
def test_of_two_the_one_further_from_its_own_reference_is_suspected(
    median_ms: float, apart: float, drift: float, other: float
) -> None:
    slow, fast = time_of("slow", median_ms * (1 + apart), drift), time_of("fast", median_ms, other)
    forth, back = agreement(slow, [fast]), agreement(fast, [slow])
    assert {forth, back} <= {Agreement.IS_OFF, Agreement.PEER_IS_OFF}
    assert Agreement.IS_OFF in (forth, back), "one of them is suspected, whoever comes first"
    if abs(drift) > abs(other) + 0.05:
        assert (forth, back) == (Agreement.IS_OFF, Agreement.PEER_IS_OFF)
    if drift == other:
        assert (forth, back) == (Agreement.IS_OFF, Agreement.IS_OFF), "nobody knows: the newcomer"


@given(TIMES, st.lists(st.floats(0.98, 1.02), min_size=2, max_size=6), st.floats(1.2, 3.0), DRIFTS)
def test_many_outvote_one(median_ms: float, healthy: list[float], slower: float, drift: float) -> None:
    peers = [time_of(f"peer-{index}", median_ms * share, drift) for index, share in enumerate(healthy)]
    assert agreement(time_of("off", median_ms * slower), peers) is Agreement.IS_OFF
    sick = [*peers[1:], time_of("off", median_ms * slower)]
    assert agreement(peers[0], sick if len(sick) > 2 else [*sick, peers[0]]) is Agreement.AGREES


def test_alone_nobody_contradicts() -> None:
    assert agreement(time_of("a", 10.0, 0.4), []) is Agreement.ALONE


def test_the_difference_in_words() -> None:
    peer = time_of("galaxy-s24-a", 10.0)
    assert difference(time_of("b", 11.8), [peer]) == "18 % slower than galaxy-s24-a on the canary"
    two = [peer, time_of("galaxy-s24-c", 10.4)]
    assert difference(time_of("b", 8.16), two) == "20 % faster than the median of its 2 peers on the canary"


# --- over the API ----------------------------------------------------------------------------------------------------


class Phones:
    """Twins of one model under one study with one target; every candidate is one job of their pool."""

    def __init__(self, client: TestClient, ctx: Context, enrol: EnrolAgent, names: tuple[str, ...]) -> None:
        self.client = client
        self.agents = {name: enrol(f"galaxy-s24-{name}", **FACTS) for name in names}
        spec = samples.spec(targets=[TARGET])
        self.study_id: str = client.post("studies", json=spec).json()["id"]
        self.store = SqlStudyStore(ctx, self.study_id)
        (facts,) = {facts.fingerprint for facts in self.store.devices().values()}
        self.group = DeviceGroup("s24", facts)
        self.num_trials = 0

    def plan(self, threads: int = 2) -> Plan:
        plan = samples.with_canary(samples.plan(f"trial-{self.num_trials}"))
        return plan.model_copy(update={"protocol": plan.protocol.model_copy(update={"threads": threads})})

    def measure(
        self, name: str, median_ms: float, drift: float = 0.0, *, threads: int = 2, alone: bool = False,
        verdict: str = "valid",
    ) -> StoredMeasurement | None:
        """A new candidate measured by this phone; None when it gets no job."""
        self.num_trials += 1
        trial = self.store.add_trial({"n": self.num_trials}, samples.candidate())
        agent = self.agents[name]
        job = samples.job().model_copy(update={"plan": self.plan(threads)})
        self.store.submit(trial.id, only(agent.device_id) if alone else self.group, job)
        return self.answer(agent, trial.id, median_ms, drift, verdict)

    def answer(
        self, agent: AgentClient, trial_id: str, median_ms: float, drift: float, verdict: str = "valid"
    ) -> StoredMeasurement | None:
        lease = agent.lease()
        if lease is None:
            return None
        row = samples.measurement(lease["job"]["plan"]["id"], verdict)
        row["canary"] = {"median_ms": median_ms, "reference_ms": median_ms / (1 + drift), "drift": drift}
        assert agent.result(lease, measurement=row).json()["accepted"]
        (trial,) = [trial for trial in self.store.trials() if trial.id == trial_id]
        return next(row for row in trial.measurements.values() if row.device_id == agent.device_id)

    def view(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(f"devices/{self.agents[name].device_id}").json()
        return found

    def notes(self) -> list[str]:
        found: list[str] = self.client.get(f"studies/{self.study_id}").json()["notes"]
        return found


@pytest.fixture
def phones(client: TestClient, ctx: Context, enrol: EnrolAgent) -> Phones:
    return Phones(client, ctx, enrol, ("a", "b"))


def test_a_slow_peer_s_rows_are_kept_but_do_not_count(phones: Phones) -> None:
    good, slow = phones.measure("a", 10.0), phones.measure("b", 11.8)
    assert good is not None
    assert slow is not None
    assert (good.verdict, good.agent_verdict) == (Verdict.VALID, None)
    assert (slow.verdict, slow.agent_verdict) == (Verdict.UNLIKE_TWIN, Verdict.VALID)
    assert slow.reason == "galaxy-s24-b is 18 % slower than galaxy-s24-a on the canary"
    assert slow.metrics["prefill_ms@256"].median == 100.0
    assert phones.store.find_measurement(slow.plan_digest, phones.group.fingerprint) is None
    assert phones.client.get("jobs").json()[0]["verdict"] == "unlike_twin"
    assert phones.view("b")["quarantine"] == "", "one row may be chance"
    assert phones.view("b")["verdicts"] == {"unlike_twin": 1}


def test_the_candidate_is_measured_again_by_another_peer(phones: Phones) -> None:
    phones.measure("a", 10.0)
    phones.measure("b", 11.8)
    trial = phones.store.trials()[-1]
    again = samples.job(attempt=1).model_copy(update={"plan": phones.plan()})
    phones.store.submit(trial.id, phones.group, again, avoid=phones.agents["b"].device_id)
    assert phones.agents["b"].lease() is None
    row = phones.answer(phones.agents["a"], trial.id, 10.1, 0.01)
    assert row is not None
    assert phones.group.row(phones.store.trials()[-1].measurements) == row


def test_two_such_rows_in_a_row_mean_quarantine(phones: Phones) -> None:
    phones.measure("a", 10.0)
    for _ in range(2):
        phones.measure("b", 11.8)
    sentence = (
        "galaxy-s24-b is 18 % slower than galaxy-s24-a on the canary; it gets no shared work until its canary agrees"
        " again or you resume it"
    )
    assert phones.view("b")["quarantine"] == sentence
    assert sentence in phones.notes()
    assert phones.measure("b", 10.0) is None, "no shared work"
    assert phones.view("b")["num_queued"] == 0
    assert phones.agents["a"].lease() is not None, "its peer does it"


def test_an_agreeing_row_between_starts_the_count_anew(phones: Phones) -> None:
    phones.measure("a", 10.0)
    for _ in range(3):
        phones.measure("b", 11.8)
        phones.measure("b", 10.4)
    assert phones.view("b")["quarantine"] == ""


@pytest.mark.parametrize("path", ["resume", "drain"])
def test_its_owner_lifts_the_quarantine(phones: Phones, path: str) -> None:
    phones.measure("a", 10.0)
    for _ in range(2):
        phones.measure("b", 11.8)
    body = {"draining": False} if path == "drain" else None
    answer = phones.client.post(f"devices/{phones.agents['b'].device_id}/{path}", json=body)
    assert (answer.status_code, answer.json()["quarantine"]) == (200, "")
    row = phones.measure("b", 10.2)
    assert row is not None
    assert row.verdict is Verdict.VALID


def test_in_quarantine_one_shared_job_every_ten_minutes_is_a_probe(phones: Phones, clock: FakeClock) -> None:
    phones.measure("a", 10.0)
    for _ in range(2):
        phones.measure("b", 11.8)
    clock.advance(601)
    still = phones.measure("b", 11.9)
    assert still is not None
    assert still.verdict is Verdict.UNLIKE_TWIN
    assert phones.measure("b", 10.0) is None, "the next probe is ten minutes away"
    while lease := phones.agents["a"].lease():
        phones.agents["a"].result(lease)
    clock.advance(601)
    better = phones.measure("b", 10.2)
    assert better is not None
    assert (better.verdict, phones.view("b")["quarantine"]) == (Verdict.VALID, "")


def test_a_canary_that_agrees_again_lifts_the_quarantine(phones: Phones) -> None:
    phones.measure("a", 10.0)
    for _ in range(2):
        phones.measure("b", 11.8)
    own = phones.measure("b", 10.2, alone=True)
    assert own is not None
    assert phones.view("b")["quarantine"] == ""


def test_a_device_asked_for_by_name_is_taken_as_it_is(phones: Phones) -> None:
    phones.measure("a", 10.0)
    row = phones.measure("b", 11.8, alone=True)
    assert row is not None
    assert row.verdict is Verdict.VALID


def test_the_peer_that_drifted_is_suspected_even_when_it_came_first(phones: Phones) -> None:
    first, second = phones.measure("a", 11.8, drift=0.18), phones.measure("b", 10.0)
    third = phones.measure("a", 11.8, drift=0.18)
    assert first is not None
    assert second is not None
    assert third is not None
    assert [first.verdict, second.verdict] == [Verdict.VALID, Verdict.VALID]
    assert third.verdict is Verdict.UNLIKE_TWIN


def test_a_reference_that_was_mended_shows_which_of_two_was_off(phones: Phones) -> None:
    """The first phone's first session met a busy machine; its agent knows by now, so the newcomer is believed."""
    phones.measure("a", 20.0)
    phones.measure("a", 15.0, drift=0.5, verdict="drifted")
    row = phones.measure("b", 10.0)
    assert row is not None
    assert row.verdict is Verdict.VALID


def test_agreeing_with_one_thread_does_not_excuse_two(phones: Phones) -> None:
    for threads in (1, 2):
        phones.measure("a", 10.0, threads=threads)
    for _ in range(2):
        phones.measure("b", 10.0, threads=1)
        phones.measure("b", 11.8, threads=2)
    assert phones.view("b")["quarantine"] != ""
    phones.measure("b", 10.0, threads=1, alone=True)
    assert phones.view("b")["quarantine"] != ""
    phones.measure("b", 10.0, threads=2, alone=True)
    assert phones.view("b")["quarantine"] == ""


def test_canaries_of_other_threads_are_not_compared(phones: Phones) -> None:
    phones.measure("a", 10.0, threads=2)
    row = phones.measure("b", 17.0, threads=1)
    assert row is not None
    assert row.verdict is Verdict.VALID


def test_of_three_the_odd_one_is_out(client: TestClient, ctx: Context, enrol: EnrolAgent) -> None:
    phones = Phones(client, ctx, enrol, ("a", "b", "c"))
    phones.measure("a", 10.0)
    phones.measure("b", 10.2, drift=0.1)
    rows = [phones.measure("c", 13.0), phones.measure("a", 10.1)]
    assert [row.verdict if row else None for row in rows] == [Verdict.UNLIKE_TWIN, Verdict.VALID]


def test_a_trained_program_is_measured_again_by_a_peer(phones: Phones) -> None:
    phones.measure("a", 10.0)
    trial = phones.store.trials()[0]
    job = samples.job("trained", form="trained").model_copy(update={"plan": phones.plan()})
    phones.store.submit(trial.id, phones.group, job)
    b = phones.agents["b"]
    lease = b.lease()
    assert lease is not None
    row = {**samples.measurement(), "canary": {"median_ms": 12.0, "reference_ms": 12.0, "drift": 0.0}}
    b.result(lease, measurement=row)
    assert b.lease() is None
    again = phones.agents["a"].lease()
    assert again is not None
    assert (again["job"]["form"], again["job"]["attempt"]) == ("trained", 1)
