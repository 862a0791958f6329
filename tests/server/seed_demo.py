"""A fake study of some forty trials for looking at the dashboard: ``python -m tests.server.seed_demo FOLDER``.

Numbers are made up from the architecture with a fixed seed; nothing here was measured."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

from nas.contracts.device import DeviceFacts
from nas.contracts.job import Enrolment, JobResult
from nas.contracts.states import TrialState
from nas.contracts.study import QualityResult, StudySpec
from search_space.arch import ArchConfig
from search_space.cost import closed_form
from search_space.space import space
from server.app import create_app
from server.auth.service import Agent
from server.context import Context
from server.devices import service as devices
from server.devices.schemas import EnrolmentTokenRequest
from server.jobs import service as jobs
from server.settings import Settings
from server.store import SqlStudyStore
from server.studies import service as studies
from server.tables import DeviceRow
from tests.server import samples
from tests.server.helpers import only

OBJECTIVES = [
    {"metric": "quality"},
    {"metric": "prefill_ms@512"},
    {"metric": "memory_bytes@4096", "budget": 330_000_000},
]
COSTS = {"params": None, "weight_bytes": None, "memory_bytes": 4096, "cache_bytes": 4096}
NUM_TRIALS = 42


def main(folder: Path) -> None:
    ctx: Context = create_app(Settings(var=folder), supervise=False).state.context
    agent, phone = _enrol(ctx, "desk-ryzen"), _enrol(ctx, "pixel-9", kind="android", model="Tensor G4", cores=8)
    spec = samples.spec(
        name="phone-350m", space="lfm2_350m_class", objectives=OBJECTIVES, max_trials=64, protocol="screening",
        devices=[agent.device_id],
    )  # fmt: skip
    with ctx.database.write() as session:
        study, _ = studies.create(session, ctx, StudySpec.model_validate(spec), None)
        session.get_one(DeviceRow, phone.device_id).last_seen = study.created_at.replace(year=2025)
    store, rng = SqlStudyStore(ctx, study.id), random.Random(7)
    store.set_reference_point({"quality": 0.0, "prefill_ms@512": 1400.0, "memory_bytes@4096": 330e6})
    for number in range(NUM_TRIALS):
        _trial(ctx, store, agent, number, rng)


def _enrol(ctx: Context, name: str, **facts: Any) -> Agent:
    with ctx.database.write() as session:
        token = devices.create_enrolment_token(session, ctx, EnrolmentTokenRequest()).token
        known = DeviceFacts.model_validate(samples.facts(name, **facts))
        credential = devices.enrol(session, ctx, Enrolment(token=token, facts=known))
    return Agent(credential.agent_id, credential.device_id)


def _trial(ctx: Context, store: SqlStudyStore, agent: Agent, number: int, rng: random.Random) -> None:
    found = space("lfm2_350m_class")
    arch = found.decode(found.sample(rng))
    costs = {
        f"{name}@{context}" if context else name: closed_form(arch, name, context, "8da4w", "fp32")
        for name, context in COSTS.items()
    }
    trial = store.add_trial({}, arch.to_dict(), arch.digest)
    if costs["memory_bytes@4096"] > 330e6 and number % 3:
        reason = f"memory_bytes@4096 is {costs['memory_bytes@4096']:.4g} bytes, over the budget of 3.3e+08 bytes"
        store.update_trial(trial.id, state=TrialState.GATED, reason=reason, costs=costs)
        return
    store.update_trial(trial.id, state=TrialState.PREPARING, costs=costs)
    store.update_trial(trial.id, state=TrialState.MEASURING)
    store.submit(trial.id, only(agent.device_id), samples.job(f"demo-{number}"))
    if number >= NUM_TRIALS - 2:
        return
    with ctx.database.write() as session:
        lease = jobs.lease(session, ctx, agent)
    if lease is None or number == NUM_TRIALS - 3:
        return
    verdict = "throttled" if number == 11 else "valid"
    result = _measured(arch, f"demo-{number}", verdict, rng)
    body = JobResult.model_validate({"fencing_token": lease.fencing_token, "measurement": result})
    with ctx.database.write() as session:
        jobs.finish(session, ctx, agent, lease.job_id, body)
    _judge(store, trial.id, arch, number, rng, result)


def _measured(arch: ArchConfig, name: str, verdict: str, rng: random.Random) -> dict[str, Any]:
    body = samples.measurement(name, verdict)
    work = sum((layer.ffn.width if layer.ffn else 0) / 4608 for layer in arch.layers)
    attention = sum(layer.mixer.kind == "gqa" for layer in arch.layers)
    prefill = (120 + 38 * work + 22 * attention) * rng.uniform(0.96, 1.04)
    body["metrics"] = {
        "prefill_ms@512": _interval(prefill, rng),
        "decode_ms@512": _interval(prefill / 38, rng),
        "decode_ms@4096": _interval(prefill / 38 + attention * 0.9, rng),
        "load_ms": _interval(900 + 40 * work, rng),
    }
    body["canary"] = {"reference_ms": 10.0, "median_ms": 10.14, "drift": rng.uniform(-0.01, 0.03)}
    return body


def _interval(median: float, rng: random.Random) -> dict[str, Any]:
    half = median * rng.uniform(0.008, 0.035)
    return {"median": median, "low": median - half, "high": median + half, "unit": "ms", "num_samples": 9}


def _judge(
    store: SqlStudyStore, trial_id: str, arch: ArchConfig, number: int, rng: random.Random, row: dict[str, Any]
) -> None:
    if row["verdict"] != "valid":
        store.update_trial(trial_id, state=TrialState.FAILED, reason="verdict throttled: the clock fell by 22 %")
        return
    store.update_trial(trial_id, state=TrialState.MEASURED)
    if number % 6 == 5:
        store.update_trial(trial_id, state=TrialState.DOMINATED, reason="dominated by candidate 3 even at quality 0.81")
        return
    if number % 11 == 7:
        store.update_trial(trial_id, state=TrialState.JUDGING)
        return
    attention = sum(layer.mixer.kind in ("gqa", "sliding_window") for layer in arch.layers)
    width = sum(layer.ffn.width if layer.ffn else 0 for layer in arch.layers) / len(arch.layers) / 4608
    score = min(0.97, 0.22 + 0.4 * min(1, attention / 6) + 0.22 * width + rng.uniform(-0.08, 0.08))
    quality = QualityResult(estimator="mechanistic", score=score, low=score - 0.02, high=score + 0.02, seeds=[0, 1])
    record = store.update_trial(trial_id, state=TrialState.JUDGING, quality=quality)
    values = {
        "quality": score, "prefill_ms@512": row["metrics"]["prefill_ms@512"]["median"],
        "memory_bytes@4096": record.costs["memory_bytes@4096"],
    }  # fmt: skip
    store.update_trial(trial_id, state=TrialState.COMPLETE, values=values)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
