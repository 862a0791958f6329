"""Made ``0a649e8.sqlite3.gz`` (see README.md here): run it in a checkout of that commit, not in this one.

One running study of the phone kind with two targets and a trial in every state, one finished study without targets, a
training with a result and one that runs. Rows are written by that version's own stores and routes."""

from __future__ import annotations

import gzip
import random
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Any

from nas.contracts.states import StudyState, TrialState
from nas.contracts.study import QualityResult

from nas.targets import groups_of
from search_space.arch import ArchConfig
from search_space.space import space
from server.app import create_app
from server.settings import Settings
from server.store import SqlStudyStore
from tests.server import samples
from tests.server.helpers import AgentClient, FakeClock, local_client

TARGETS = [
    {"name": "desk", "kind": "host", "objectives": [{"metric": "prefill_ms@256"}]},
    {"name": "s24", "model": "SM-S921B", "budgets": {"decode_ms@256": 40.0}},
]
PATHS: dict[str, tuple[TrialState, ...]] = {
    "proposed": (),
    "gated": (TrialState.GATED,),
    "preparing": (TrialState.PREPARING,),
    "measuring": (TrialState.PREPARING, TrialState.MEASURING),
    "measured": (TrialState.PREPARING, TrialState.MEASURING, TrialState.MEASURED),
    "dominated": (TrialState.PREPARING, TrialState.MEASURING, TrialState.MEASURED, TrialState.DOMINATED),
    "judging": (TrialState.PREPARING, TrialState.MEASURING, TrialState.MEASURED, TrialState.JUDGING),
    "complete": (
        TrialState.PREPARING, TrialState.MEASURING, TrialState.MEASURED, TrialState.JUDGING, TrialState.COMPLETE,
    ),
    "infeasible": (TrialState.PREPARING, TrialState.MEASURING, TrialState.INFEASIBLE),
    "failed": (TrialState.PREPARING, TrialState.FAILED),
}  # fmt: skip
REASONS = {"gated": "params is 9e+06 count, over the budget of 8e+06 count",
           "dominated": "dominated by candidate 7 even at quality 0.610",
           "infeasible": "decode_ms@256:s24 is 41 ms, over the budget of 40 ms",
           "failed": "measurement failed: given up after 3 attempts: its agent went silent"}  # fmt: skip


def main(target: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        app = create_app(Settings(var=folder), clock=FakeClock(), supervise=False)
        fill(app)
        app.state.context.database.dispose()
        connection = sqlite3.connect(folder / "hilnas.sqlite3")
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("VACUUM")
        connection.close()
        content = (folder / "hilnas.sqlite3").read_bytes()
    target.write_bytes(gzip.compress(content, 9, mtime=0))
    print(f"{target}: {len(content)} bytes, {target.stat().st_size} compressed")


def fill(app: Any) -> None:
    client, rng = local_client(app), random.Random(5)
    desk = enrol(app, "desk-ryzen", ["measure"])
    phone = enrol(app, "galaxy-s24", ["measure"], kind="android", model="SM-S921B", arch="aarch64", cores=10,
                  cpu_features=["dotprod"], details={"affinity": {"2": [8, 9]}, "soc": "s5e9945"})  # fmt: skip
    trainer = enrol(app, "trainer", ["train"], model="EPYC 9654", cpu_features=[])
    spec = samples.spec(name="phones", objectives=[{"metric": "quality"}], targets=TARGETS, max_trials=32,
                        budgets={"params": 8e6})  # fmt: skip
    store = SqlStudyStore(app.state.context, client.post("studies", json=spec).json()["id"])
    store.set_reference_point({"quality": 0.0, "prefill_ms@256:desk": 500.0})
    done = [trial(store, [desk, phone], state, number, rng) for number, state in enumerate([*PATHS, "complete"])]
    confirm(store, desk, done[7])
    train(client, trainer, done[7], finished=True)
    train(client, trainer, done[10], finished=False)
    without_targets(app, client, desk, rng)
    drained = enrol(app, "old-laptop", ["measure"], model="i5-7200U", cores=4)
    client.post(f"devices/{drained.device_id}/drain", json={})


def enrol(app: Any, name: str, serves: list[str], **facts: Any) -> AgentClient:
    client = local_client(app)
    token = client.post("devices/tokens", json={}).json()["token"]
    body = {"token": token, "facts": samples.facts(name, **facts), "serves": serves}
    return AgentClient(app, client.post("agents/enrol", json=body).json())


def drawn(rng: random.Random) -> tuple[dict[str, Any], ArchConfig]:
    found = space("debug_space")
    assignment = found.sample(rng)
    return assignment, found.decode(assignment)


def trial(store: SqlStudyStore, agents: list[AgentClient], state: str, number: int, rng: random.Random) -> str:
    assignment, arch = drawn(rng)
    added = store.add_trial(assignment, arch.to_dict(), arch.digest)
    for step in PATHS[state]:
        store.update_trial(added.id, state=step, reason=REASONS.get(state) if step == state else None)
        if step is TrialState.PREPARING:
            store.update_trial(added.id, costs={"params": 1e6 + number, "weight_bytes": 4e6 + number})
        if step is TrialState.MEASURING:
            store.update_trial(added.id, blocks=["ab" * 32, "cd" * 32])
            measure(store, agents if state != "measuring" else agents[:1], added.id, number)
    if state == "complete":
        score = 0.5 + number / 100
        quality = QualityResult(estimator="mechanistic", score=score, low=score - 0.02, high=score + 0.02, seeds=[0])
        values = {"quality": score, "prefill_ms@256:desk": 100.0 + number}
        store.update_trial(added.id, quality=quality, values=values)
        store.record_quality(arch.digest, "mechanistic/200", quality)
    return str(added.id)


def measure(store: SqlStudyStore, agents: list[AgentClient], trial_id: str, number: int) -> None:
    name = f"trial-{number}"
    job = samples.job(name)
    job = job.model_copy(update={"plan": samples.with_canary(samples.plan(name))})
    for group in groups_of(store.study().spec, store.devices()):
        store.submit(trial_id, group, job)
    for slower, agent in enumerate(agents, 1):
        lease = agent.lease()
        assert lease is not None
        row = samples.measurement(name, "noisy" if number == 4 and slower == 2 else "valid", (100.0 + number) * slower)
        if number == 5:  # what strangers could store then
            row["canary"]["measured_at"] = 1.0
            row["environment"] = {"before": {"note": "before there were limits", "battery_c": None}}
        answer = agent.result(lease, measurement=row)
        assert answer.json()["accepted"], answer.text


def confirm(store: SqlStudyStore, agent: AgentClient, trial_id: str) -> None:
    (group,) = [one for one in groups_of(store.study().spec, store.devices()) if one.target == "desk"]
    job = samples.job("one-piece", form="one_piece", beside=samples.plan("composed"))
    store.submit(trial_id, group, job)
    lease = agent.lease()
    while lease is not None and lease["job"]["form"] != "one_piece":
        lease = agent.lease()
    assert lease is not None
    row = samples.measurement("one-piece", "valid", 98.0) | {"beside": {"prefill_ms@256": samples.estimate(101.0)}}
    agent.result(lease, measurement=row)
    store.update_trial(trial_id, artifacts={"one_piece": "ee" * 32})


def train(client: Any, trainer: AgentClient, trial_id: str, finished: bool) -> None:
    recipe = "smoke" if finished else "tiny"
    assert client.post(f"trials/{trial_id}/train", json={"recipe": recipe}).status_code == 201
    lease = trainer.lease()
    assert lease is not None
    stages = [{"name": "pretrain", "kind": "pretrain", "state": "done" if finished else "running", "share": 0.5,
               "metrics": {"tokens": 900}}]  # fmt: skip
    curve = [{"stage": "pretrain", "step": step, "values": {"loss": 7.0 - step / 10}} for step in range(10)]
    told = {"fencing_token": lease["fencing_token"], "share": 0.5, "stages": stages, "curve": curve}
    assert trainer.http.post(f"trainings/{lease['job_id']}/progress", json=told).status_code == 200
    if finished:
        assert trainer.result(lease, training=samples.training()).json()["accepted"]


def without_targets(app: Any, client: Any, desk: AgentClient, rng: random.Random) -> None:
    spec = samples.spec(name="desk only", objectives=[{"metric": "decode_ms@256"}], devices=[desk.device_id])
    store = SqlStudyStore(app.state.context, client.post("studies", json=spec).json()["id"])
    assignment, arch = drawn(rng)
    added = store.add_trial(assignment, arch.to_dict(), arch.digest)
    store.update_trial(added.id, state=TrialState.PREPARING)
    store.update_trial(added.id, state=TrialState.MEASURING)
    (group,) = groups_of(store.study().spec, store.devices())
    store.submit(added.id, group, samples.job("alone"))
    desk.result(desk.lease() or {}, measurement=samples.measurement("alone"))
    store.update_trial(added.id, state=TrialState.MEASURED)
    store.update_trial(added.id, state=TrialState.COMPLETE, values={"decode_ms@256": 5.0})
    store.finish(StudyState.FINISHED, "1 candidates complete, 1 on the front")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
