"""A fake study of some forty trials for looking at the dashboard: ``python -m tests.server.seed_demo FOLDER``.

Numbers are made up from the architecture with a fixed seed; nothing here was measured."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

from contracts.device import DeviceFacts
from contracts.job import Enrolment, JobResult
from contracts.states import TrialState
from contracts.study import QualityResult, StudySpec
from nas.objectives import known_values
from nas.targets import groups_of
from search_space.arch import ArchConfig
from search_space.cost import closed_form
from search_space.space import space
from server.app import create_app
from server.auth.service import Agent
from server.context import Context
from server.devices import service as devices
from server.devices.schemas import EnrolmentTokenRequest
from server.jobs import queue, results
from server.settings import Settings
from server.store import SqlStudyStore
from server.studies import service as studies
from server.tables import DeviceRow
from tests.server import samples

OBJECTIVES = [{"metric": "quality"}, {"metric": "memory_bytes@4096", "budget": 330_000_000}]
TARGETS = [
    {"name": "desk", "kind": "host", "objectives": [{"metric": "prefill_ms@512"}]},
    {"name": "s24", "model": "SM-S921B", "objectives": [{"metric": "prefill_ms@512"}]},
    {"name": "s25", "model": "SM-S931B"},
]
PHONE = {
    "soc": "s5e9945", "android": "15", "one_ui": "7.0", "kernel": "6.1.75", "page_size": 4096, "virtual": True,
    "cores": [{"cpu": cpu, "max_khz": khz} for cpu, khz in enumerate([1959000] * 4 + [2592000] * 5 + [3207000])],
    "big_cores": [9], "thermal_zones": ["BIG", "MID", "LITTLE"], "free_bytes": 101_000_000_000,
}  # fmt: skip
BEFORE = {"battery_c": 30.1, "battery_level": 78, "thermal_status": 0, "charging": False, "fixed_performance": True,
          "caps_khz": {"0": 1_400_000, "9": 1_996_000}, "residency": {"9": {"1996000": 0.9, "1000000": 0.1}},
          "gate": {"waited_s": 41.0, "timed_out": False, "threshold_c": 35}}  # fmt: skip
COSTS = {"params": None, "weight_bytes": None, "memory_bytes": 4096, "cache_bytes": 4096}
NUM_TRIALS = 42


def main(folder: Path) -> None:
    ctx: Context = create_app(Settings(var=folder), supervise=False).state.context
    desk = _enrol(ctx, "desk-ryzen")
    model = {"kind": "android", "model": "SM-S921B", "cores": 10, "memory_bytes": 8 << 30, "arch": "aarch64",
             "os": "Android 15", "cpu_features": ["dotprod"], "details": PHONE}  # fmt: skip
    phones = [_enrol(ctx, f"galaxy-s24-{one}", **model) for one in "ab"]
    spec = samples.spec(
        name="phones-350m", space="lfm2_350m_class", objectives=OBJECTIVES, max_trials=64, protocol="screening",
        targets=TARGETS,
    )  # fmt: skip
    with ctx.database.write() as session:
        study, _ = studies.create(session, ctx, StudySpec.model_validate(spec), None)
    store, rng = SqlStudyStore(ctx, study.id), random.Random(7)
    store.set_reference_point(
        {"quality": 0.0, "memory_bytes@4096": 330e6, "prefill_ms@512:desk": 1400.0, "prefill_ms@512:s24": 5200.0}
    )
    for number in range(NUM_TRIALS):
        _trial(ctx, store, {"desk": desk, "s24": phones[number % 2]}, number, rng)


def _enrol(ctx: Context, name: str, **facts: Any) -> Agent:
    with ctx.database.write() as session:
        token = devices.create_enrolment_token(session, ctx, EnrolmentTokenRequest()).token
        known = DeviceFacts.model_validate(samples.facts(name, **facts))
        credential = devices.enrol(session, ctx, Enrolment(token=token, facts=known))
    return Agent(credential.agent_id, credential.device_id)


def _trial(ctx: Context, store: SqlStudyStore, agents: dict[str, Agent], number: int, rng: random.Random) -> None:
    found = space("lfm2_350m_class")
    arch = found.decode(found.sample(rng))
    costs = {
        f"{name}@{context}" if context else name: closed_form(arch, name, context, "8da4w", "fp32")
        for name, context in COSTS.items()
    }
    trial = store.add_trial({}, arch)
    if costs["memory_bytes@4096"] > 330e6 and number % 3:
        reason = f"memory_bytes@4096 is {costs['memory_bytes@4096']:.4g} bytes, over the budget of 3.3e+08 bytes"
        store.update_trial(trial.id, state=TrialState.GATED, reason=reason, costs=costs)
        return
    store.update_trial(trial.id, state=TrialState.PREPARING, costs=costs)
    store.update_trial(trial.id, state=TrialState.MEASURING)
    plan = samples.with_canary(samples.plan(f"demo-{number}"))
    for group in groups_of(store.study().spec, store.devices()):
        store.submit(trial.id, group, samples.job(f"demo-{number}").model_copy(update={"plan": plan}))
    if number >= NUM_TRIALS - 2:
        return
    rows = [_answer(ctx, agent, arch, number, rng) for agent in agents.values()]
    if None not in rows:
        _judge(store, trial.id, arch, number, rng)


def _answer(ctx: Context, agent: Agent, arch: ArchConfig, number: int, rng: random.Random) -> dict[str, Any] | None:
    """The device's next job, answered; nothing for the last trial and in quarantine."""
    with ctx.database.write() as session:
        lease = queue.lease(session, ctx, agent)
        device = session.get_one(DeviceRow, agent.device_id)
    if lease is None or number == NUM_TRIALS - 3:
        return None
    on_phone = device.facts["kind"] == "android"
    result = _measured(arch, f"demo-{number}", "throttled" if number == 11 else "valid", rng, 3.7 if on_phone else 1.0)
    if on_phone:
        result["environment"] = {"before": BEFORE, "after": {**BEFORE, "battery_c": 33.4, "battery_level": 77}}
    if device.name.endswith("-b") and number > 30:
        result["canary"] = {"reference_ms": 10.0, "median_ms": 11.8, "drift": 0.18}
    body = JobResult.model_validate({"fencing_token": lease.fencing_token, "measurement": result})
    with ctx.database.write() as session:
        results.finish(session, ctx, agent, lease.job_id, body)
    return result


def _measured(arch: ArchConfig, name: str, verdict: str, rng: random.Random, slower: float) -> dict[str, Any]:
    body = samples.measurement(name, verdict)
    work = sum((layer.ffn.width if layer.ffn else 0) / 4608 for layer in arch.layers)
    attention = sum(layer.mixer.kind == "gqa" for layer in arch.layers)
    prefill = (120 + 38 * work + 22 * attention) * rng.uniform(0.96, 1.04) * slower
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


def _judge(store: SqlStudyStore, trial_id: str, arch: ArchConfig, number: int, rng: random.Random) -> None:
    (trial,) = [one for one in store.trials() if one.id == trial_id]
    known = known_values(trial)
    if not {"prefill_ms@512:desk", "prefill_ms@512:s24"} <= set(known):
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
    store.update_trial(trial_id, state=TrialState.JUDGING, quality=quality)
    keys = [objective.metric for objective in store.study().spec.all_objectives if objective.metric != "quality"]
    values = {"quality": score, **{key: known[key] for key in keys}}
    store.update_trial(trial_id, state=TrialState.COMPLETE, values=values)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
