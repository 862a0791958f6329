"""Studies with targets: what a specification may say, who measures, what counts, what each target sees of the front."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from contracts.device import DeviceFacts
from contracts.job import MeasureJob
from contracts.measurement import Verdict
from contracts.metrics import MetricKey, parse_metric
from contracts.states import StudyState, TrialState
from contracts.study import StudySpec, TrialFacts, TrialRecord
from foundation.errors import InvalidConfig
from nas.confirmation import MAX_SESSIONS
from nas.front import front_of, objectives_of, reference_point_of
from nas.samplers.optuna_sampler import frozen_trial
from nas.targets import DeviceGroup, groups_of, unserved
from tests.doubles.memory_store import MemoryStore
from tests.doubles.workspace import FakeWorkspace, no_blocks, run, spec_of  # noqa: F401
from tests.server import samples

HOST: dict[str, Any] = {"name": "host", "kind": "host", "objectives": [{"metric": "decode_ms@256"}]}
S24: dict[str, Any] = {
    "name": "s24", "model": "SM-S921B", "threads": 4, "objectives": [{"metric": "decode_ms@256"}],
}  # fmt: skip


def facts(name: str, **changes: Any) -> DeviceFacts:
    return DeviceFacts.model_validate(samples.facts(name, **changes))


def phone(name: str) -> DeviceFacts:
    return facts(name, kind="android", model="SM-S921B", cores=8)


FLEET = {"desk": facts("desk"), "a": phone("galaxy-s24-a"), "b": phone("galaxy-s24-b")}
PHONES = FLEET["a"].fingerprint


def targeted(*targets: dict[str, Any], **changes: Any) -> StudySpec:
    return spec_of("memory_bytes@256", targets=list(targets), **changes)


def store_of(spec: StudySpec, **options: Any) -> MemoryStore:
    store = MemoryStore(spec, **options)
    store.devices_now = dict(FLEET)
    return store


# --- the specification -----------------------------------------------------------------------------------------------


def test_a_key_is_taken_apart() -> None:
    key = MetricKey.parse("decode_ms@512:s24")
    assert (key.metric.name, key.context, key.target, key.base) == ("decode_ms", 512, "s24", "decode_ms@512")
    assert parse_metric("decode_ms@512:s24") == parse_metric("decode_ms@512")
    assert key.on("host") == "decode_ms@512:host"


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("params:s24", "params is the same on every device, so it takes no target"),
        ("decode_ms@512:", "expected a target name after the colon, e.g. decode_ms@512:s24"),
        ("decode_ms@512:S 24", "expected a target name after the colon"),
        ("decode_ms:s24", "decode_ms needs a context"),
    ],
)
def test_a_key_that_cannot_be(key: str, sentence: str) -> None:
    with pytest.raises(InvalidConfig, match=sentence):
        MetricKey.parse(key)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"targets": [{"name": "s24"}]}, "target s24 needs exactly one of device, model and kind, got none"),
        ({"targets": [{"name": "s24", "model": "x", "kind": "host"}]}, "exactly one .* got model and kind"),
        ({"targets": [{"name": "My phone", "kind": "host"}]}, "a target's name is a short word like s24"),
        ({"targets": [{**HOST, "objectives": [{"metric": "params"}]}]}, "params is the same on every device"),
        ({"targets": [{**HOST, "objectives": [{"metric": "load_ms:host"}]}]}, "inside target host write load_ms"),
        ({"targets": [HOST, HOST]}, "target host is given twice"),
        ({"targets": [HOST], "objectives": [{"metric": "decode_ms@256:host"}]}, "objective .* is given twice"),
        ({"targets": [HOST], "devices": ["device-1"]}, "targets or devices, not both"),
        ({"targets": [HOST], "budgets": {"decode_ms@256:s25": 4}}, "unknown target 's25' .*; known targets: host"),
        ({"budgets": {"decode_ms@256:s25": 4}}, "unknown target 's25' .*; this study has no targets"),
        ({"objectives": []}, "a study needs at least one objective"),
        ({"targets": [{**HOST, "budgets": {"load_ms": 0}}]}, "the budget of load_ms must be above 0 ms, got 0"),
    ],
)
def test_a_mistake_is_answered_with_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        StudySpec.model_validate(samples.spec(**changes))


def test_all_objectives_and_budgets_under_their_full_keys() -> None:
    spec = targeted({**HOST, "budgets": {"load_ms": 900}}, {**S24, "objectives": [
        {"metric": "decode_ms@256", "budget": 30}]}, budgets={"prefill_ms@256": 50})  # fmt: skip
    assert [one.metric for one in spec.all_objectives] == [
        "memory_bytes@256", "decode_ms@256:host", "decode_ms@256:s24",
    ]  # fmt: skip
    assert spec.all_budgets == {"decode_ms@256:s24": 30, "prefill_ms@256": 50, "load_ms:host": 900}
    assert StudySpec.model_validate_json(spec.model_dump_json()) == spec


def test_a_study_may_leave_all_objectives_to_its_targets() -> None:
    spec = StudySpec.model_validate(samples.spec(objectives=[], targets=[HOST]))
    assert [one.metric for one in spec.all_objectives] == ["decode_ms@256:host"]


def test_studies_and_rows_stored_before_there_were_targets_still_load() -> None:
    stored = StudySpec.model_validate(samples.spec()).model_dump(mode="json")
    del stored["targets"]
    assert StudySpec.model_validate(stored) == StudySpec.model_validate(samples.spec())
    trial = {
        "id": "t", "study_id": "s", "number": 0, "state": "complete", "assignment": {}, "arch": samples.arch(),
        "arch_digest": "d", "measurements": {"device-1": samples.measurement()},
    }  # fmt: skip
    (row,) = TrialRecord.model_validate(trial).measurements.values()
    assert (row.target, row.agent_verdict) == ("", None)


# --- who measures ----------------------------------------------------------------------------------------------------


def test_equal_devices_are_one_group_and_different_ones_several() -> None:
    fleet = {**FLEET, "laptop": facts("laptop", model="i5-1240P")}
    groups = groups_of(targeted(HOST, S24), fleet)
    hosts = [DeviceGroup("host", fleet[name].fingerprint) for name in ("desk", "laptop")]
    assert groups == [*hosts, DeviceGroup("s24", PHONES)]


def test_a_target_may_be_one_device_by_id_or_by_name() -> None:
    for wanted in ("b", "galaxy-s24-b"):
        assert groups_of(targeted({"name": "mine", "device": wanted}), FLEET) == [DeviceGroup("mine", PHONES, "b")]


def test_listed_devices_each_measure_and_without_a_list_equal_ones_share() -> None:
    listed = groups_of(spec_of(devices=["a", "b"]), FLEET)
    assert listed == [DeviceGroup("", PHONES, "a"), DeviceGroup("", PHONES, "b")]
    assert groups_of(spec_of(), FLEET) == [DeviceGroup("", FLEET["desk"].fingerprint), DeviceGroup("", PHONES)]


def test_targets_that_nothing_matches_are_named() -> None:
    spec = targeted(HOST, S24)
    groups = groups_of(spec, {"desk": FLEET["desk"]})
    assert [target.name for target in unserved(spec, groups)] == ["s24"]


# --- the loop --------------------------------------------------------------------------------------------------------


def test_every_target_s_group_answers_once_for_every_candidate() -> None:
    store = store_of(targeted(HOST, S24, max_trials=4, confirm=1))
    assert run(store) == {TrialState.COMPLETE: 4}
    composed = Counter(job.record.target for job in store.jobs.values() if job.record.form == "composed")
    assert composed == {"host": 4, "s24": 4}, "two phones share, nothing is measured twice"
    assert sorted(job.record.target for job in store.jobs.values() if job.record.form == "one_piece") == ["host", "s24"]
    for trial in store.trials():
        assert set(trial.values) == {"memory_bytes@256", "decode_ms@256:host", "decode_ms@256:s24"}
        assert set(trial.measurements) == {"host:desk", "s24:a"}
    assert set(store.record.reference_point) == set(store.trials()[0].values)


def test_threads_of_a_target_are_part_of_its_plans() -> None:
    store = store_of(targeted(HOST, {**S24, "affinity": [6, 7]}, max_trials=1))
    run(store)
    protocols = {job.record.target: job.job.plan.protocol for job in store.jobs.values()}
    assert (protocols["host"].threads, protocols["host"].affinity) == (2, None)
    assert (protocols["s24"].threads, protocols["s24"].affinity) == (4, [6, 7])


def test_each_target_has_its_backend_in_blocks_plans_and_one_piece_programs() -> None:
    spec = targeted(HOST, {**S24, "backend": "portable"}, quantization="fp32", max_trials=2, confirm=1)
    assert (spec.backend_of("host"), spec.backend_of("s24"), spec.backends) == (
        "xnnpack", "portable", ["xnnpack", "portable"],
    )  # fmt: skip
    store, workspace = store_of(spec), FakeWorkspace()
    assert run(store, workspace) == {TrialState.COMPLETE: 2}
    assert {(job.record.target, job.job.plan.backend) for job in store.jobs.values()} == {
        ("host", "xnnpack"), ("s24", "portable"),
    }  # fmt: skip
    assert {specs.split()[0] for specs in workspace.compiled} == {"xnnpack", "portable"}
    (winner,) = [trial for trial in store.trials() if trial.artifacts]
    assert set(winner.artifacts) == {"one_piece", "one_piece_portable"}
    beside = {job.record.target: job.job.beside for job in store.jobs.values() if job.record.form == "one_piece"}
    assert {target: plan.backend for target, plan in beside.items() if plan} == {"host": "xnnpack", "s24": "portable"}


def test_a_study_with_one_backend_is_stored_as_before_there_was_a_choice() -> None:
    stored = targeted(HOST, S24).model_dump(mode="json")
    assert all("backend" not in target for target in stored["targets"])
    other = targeted({**HOST, "backend": "portable"}).model_dump(mode="json")
    assert other["targets"][0]["backend"] == "portable"
    assert StudySpec.model_validate(other).backend_of("host") == "portable"


def test_devices_whose_runner_lacks_the_delegate_are_in_no_group() -> None:
    bare = facts("bare", model="a bare one", details={"delegates": []})
    fleet = {**FLEET, "bare": bare}
    hosts = [FLEET["desk"].fingerprint, bare.fingerprint]
    spec = targeted({"name": "host", "kind": "host"})
    assert [group.fingerprint for group in groups_of(spec, fleet)] == hosts[:1]
    portable = targeted({"name": "host", "kind": "host", "backend": "portable"})
    assert [group.fingerprint for group in groups_of(portable, fleet)] == hosts
    assert len(groups_of(spec_of(), fleet)) == 2
    assert len(groups_of(spec_of(backend="portable"), fleet)) == 3


def test_two_targets_that_ask_for_the_same_are_measured_once() -> None:
    store = store_of(targeted({**S24, "name": "one"}, {**S24, "name": "two"}, max_trials=2))
    assert run(store) == {TrialState.COMPLETE: 2}
    assert len(store.jobs) == 2
    assert all(trial.values["decode_ms@256:one"] == trial.values["decode_ms@256:two"] for trial in store.trials())


def test_a_target_s_budget_binds_on_that_target_alone() -> None:
    slow = {**S24, "objectives": [{"metric": "decode_ms@256", "budget": 0.5}]}
    store = store_of(targeted(HOST, slow, max_trials=2))
    assert run(store) == {TrialState.INFEASIBLE: 2}
    assert "decode_ms@256:s24 is " in store.trials()[0].reason
    assert "none of 2 candidates met the budget decode_ms@256:s24 0.5 ms" in store.record.reason


def test_a_study_waits_for_a_target_that_is_not_there_yet() -> None:
    store = store_of(targeted(HOST, S24, max_trials=2))
    store.devices_now = {"desk": FLEET["desk"]}
    wait = store.wait

    def plug_in(seconds: float) -> None:
        if store.num_waits == 3:
            assert store.jobs == {}
            store.devices_now = dict(FLEET)
        wait(seconds)

    store.wait = plug_in  # type: ignore[method-assign]
    assert run(store) == {TrialState.COMPLETE: 2}


def test_a_contradicted_row_is_taken_again_by_the_other_twin() -> None:
    def answer(job: MeasureJob, attempt: int) -> Verdict:
        on_phone = job.plan.protocol.threads == 4
        return Verdict.UNLIKE_TWIN if on_phone and attempt == 0 else Verdict.VALID

    store = store_of(targeted(HOST, S24, max_trials=3, confirm=1), answer=answer)
    assert run(store) == {TrialState.COMPLETE: 3}
    again = [job for job in store.jobs.values() if job.avoid]
    assert [job.avoid for job in again] == ["a"] * 4, "three candidates and the winner's one-piece program"
    for trial in store.trials():
        assert trial.measurements["s24:a"].verdict is Verdict.UNLIKE_TWIN
        assert trial.measurements["s24:b"].verdict is Verdict.VALID


def test_sessions_are_counted_per_group() -> None:
    """A noisy phone does not use up the sessions of the host."""

    def answer(job: MeasureJob, attempt: int) -> Verdict:
        on_phone = job.plan.protocol.threads == 4
        return Verdict.NOISY if on_phone or attempt < 1 else Verdict.VALID

    store = store_of(targeted(HOST, S24, max_trials=1), answer=answer)
    assert run(store) == {TrialState.FAILED: 1}
    assert Counter(job.record.target for job in store.jobs.values()) == {"host": 2, "s24": MAX_SESSIONS}


def test_a_drained_twin_is_not_waited_for() -> None:
    store = store_of(targeted(S24, max_trials=3))
    wait = store.wait

    def drain(seconds: float) -> None:
        store.devices_now.pop("a", None)
        wait(seconds)

    store.wait = drain  # type: ignore[method-assign]
    assert run(store) == {TrialState.COMPLETE: 3}
    assert {key for trial in store.trials() for key in trial.measurements} == {"s24:b"}
    assert store.record.state is StudyState.FINISHED


# --- the front -------------------------------------------------------------------------------------------------------


def complete(number: int, quality: float, host: float, s24: float) -> TrialFacts:
    values = {"quality": quality, "decode_ms@256:host": host, "decode_ms@256:s24": s24}
    return TrialFacts(
        id=f"t{number}", study_id="s", number=number, state=TrialState.COMPLETE, assignment={}, arch_digest="",
        values=values,
    )  # fmt: skip


TRIALS = [complete(0, 0.9, 9.0, 30.0), complete(1, 0.7, 5.0, 40.0), complete(2, 0.7, 8.0, 20.0)]


def test_the_front_of_a_target_has_its_axes_only() -> None:
    spec = spec_of("quality", targets=[HOST, S24])
    assert front_of(TRIALS, spec).keys == ["quality", "decode_ms@256:host", "decode_ms@256:s24"]
    assert [trial.number for trial in front_of(TRIALS, spec).members] == [0, 1, 2]
    assert front_of(TRIALS, spec, "host").keys == ["quality", "decode_ms@256:host"]
    assert [trial.number for trial in front_of(TRIALS, spec, "host").members] == [0, 1]
    assert [trial.number for trial in front_of(TRIALS, spec, "s24").members] == [0, 2]
    with pytest.raises(InvalidConfig, match="unknown target 's25'; known targets: host, s24"):
        front_of(TRIALS, spec, "s25")


def test_what_the_study_asks_of_every_target_is_read_on_each() -> None:
    spec = spec_of("quality", "decode_ms@256", targets=[{"name": "host", "kind": "host"}, S24])
    assert [one.metric for one in objectives_of(spec, "host")] == ["quality", "decode_ms@256:host"]
    assert [one.metric for one in objectives_of(spec, "s24")] == ["quality", "decode_ms@256:s24"]


def test_the_reference_point_is_stored_once_and_projected() -> None:
    spec = spec_of("quality", targets=[HOST, S24], max_trials=3)
    point = reference_point_of(TRIALS, spec)
    assert point == pytest.approx({"quality": 0.0, "decode_ms@256:host": 9.4, "decode_ms@256:s24": 42.0})
    host = front_of(TRIALS, spec, "host")
    assert host.project(point) == {"quality": 0.0, "decode_ms@256:host": point["decode_ms@256:host"]}
    assert host.hypervolume(point) == pytest.approx(0.9 * 0.4 + 0.7 * 4.0)
    assert host.knee is not None
    assert front_of([], spec).hypervolume(point) is None
    assert front_of(TRIALS, spec).winners[0] is front_of(TRIALS, spec).knee


def test_optuna_sees_every_axis() -> None:
    frozen = frozen_trial(TRIALS[0], spec_of("quality", targets=[HOST, S24]), {})
    assert frozen.values == [0.9, 9.0, 30.0]
