"""One contract over every device: facts, blocks, events of a cold run, and what is said when the runner or it is gone.

The replay device plays what the host device recorded here, in the order of a trace file."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts.device import DeviceFacts
from contracts.job import MeasureJob
from contracts.measurement import Verdict
from contracts.plan import Plan, Protocol
from contracts.runner_events import ErrorEvent, parse_run, records
from device_agents.bundle.manifest import Bundle
from device_agents.canary import CanaryBook
from device_agents.devices import host as host_module
from device_agents.devices.base import Device
from device_agents.devices.host import HostDevice, run_process
from device_agents.devices.replay import ReplayDevice, plan_key
from device_agents.devices.served import ServedHostDevice
from device_agents.session import measure
from foundation.errors import DeviceLost, InvalidConfig, RunnerCrashed
from nas.export.blocks import blocks_of
from nas.export.compose import build_plan, canary_arch, canary_of, candidate_check, chain_of
from nas.export.library import BlockLibrary
from nas.export.reference import EagerChain
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from tests.phones.virtual import device_on, start

ARCH = ArchConfig(64, 256, (LayerConfig(GatedShortConv(3), SwiGLU(128)), LayerConfig(Gqa(8, 2, 32), SwiGLU(128))))
PROTOCOL = Protocol(
    name="contract", warmup=1, repetitions=2, prefill_lengths=[16], decode_contexts=[16], decode_tokens=2
)
pytestmark = [pytest.mark.alone, pytest.mark.slow]


def never() -> bool:
    return False


@pytest.fixture(autouse=True)
def own_quiet_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HILNAS_MEASUREMENT_LOCK", str(tmp_path / "quiet"))


@pytest.fixture(scope="module")
def plan(library: BlockLibrary) -> Plan:
    arches = (ARCH, canary_arch(ARCH.d_model))
    library.ensure(
        block.spec for arch in arches for block in blocks_of(arch, "fp32")
        if arch is ARCH or block.spec.role in ("mixer", "ffn")
    )  # fmt: skip
    return build_plan(
        ARCH, chain_of(ARCH, "fp32", library), PROTOCOL, cache_dtype="fp32",
        check=candidate_check(ARCH, "fp32", "fp32", EagerChain()), canary=canary_of(ARCH.d_model, "fp32", library),
    )  # fmt: skip


@pytest.fixture
def host(library: BlockLibrary, runner: Path, tmp_path: Path, plan: Plan) -> HostDevice:
    """A device with a block cache of its own, filled as an agent fills it."""
    return filled(HostDevice(tmp_path / "blocks", runner, "contract"), library, plan)


def filled(device: Any, library: BlockLibrary, plan: Plan) -> Any:
    for digest in plan.blocks:
        assert not device.has_block(digest)
        device.add_blocks({digest: library.path(digest)})
    return device


class DeviceContract:
    @pytest.fixture
    def device(self) -> Device:
        raise NotImplementedError

    def test_facts_are_comparable(self, device: Device) -> None:
        facts = device.facts
        assert DeviceFacts.model_validate_json(facts.model_dump_json()) == facts
        assert len(facts.fingerprint) == 16
        assert facts.cores > 0

    def test_blocks_are_kept(self, device: Device, plan: Plan) -> None:
        assert all(device.has_block(digest) for digest in plan.blocks)
        assert not device.has_block("00" * 32)

    def test_a_run_tells_everything_a_session_reads(self, device: Device, plan: Plan) -> None:
        events = records(device.run(plan, never))
        assert events[-1]["event"] == "end"
        kinds = [event["event"] for event in events]
        assert kinds.index("load") < kinds.index("check") < kinds.index("repetition")
        assert next(event for event in events if event["event"] == "check")["passed"]
        timed = [event for event in events if event["event"] == "repetition"]
        assert {event["phase"] for event in timed} == {"prefill", "decode"}
        for phase in ("prefill", "decode"):
            assert sum(event["phase"] == phase and not event.get("warmup") for event in timed) == PROTOCOL.repetitions
        assert all(event["canary_ns"] > 0 for event in timed if "canary_ns" in event)
        assert any("canary_ns" in event for event in timed)
        for event in timed:
            assert len(event["block_ns"]) == len(plan.chain)
        json.dumps(events)

    def test_a_session_makes_a_row_of_it(self, device: Device, plan: Plan) -> None:
        row = measure(MeasureJob(plan=plan, max_half_width=1e9), device, CanaryBook())
        assert row.verdict is Verdict.VALID, row.reason
        assert {"prefill_ms@16", "decode_ms@16", "ttft_ms@16", "load_ms"} <= set(row.metrics)
        assert all(estimate.median > 0 for estimate in row.metrics.values())
        assert set(row.block_ms["prefill@16"]) == {step.name for step in plan.chain}
        assert row.canary["median_ms"] > 0

    def test_the_environment_is_plain_data(self, device: Device) -> None:
        assert json.loads(json.dumps(device.environment())) == device.environment()


class TestHost(DeviceContract):
    @pytest.fixture
    def device(self, host: HostDevice) -> Device:
        return host

    def test_a_missing_block_is_an_error_in_words(self, host: HostDevice, plan: Plan) -> None:
        (host.blocks_dir / f"{plan.chain[0].block}.pte").unlink()
        row = measure(MeasureJob(plan=plan), host, CanaryBook())
        assert row.verdict is Verdict.RUNNER_FAILED
        assert row.reason

    def test_a_damaged_block_is_an_error_in_words(self, host: HostDevice, plan: Plan) -> None:
        path = host.blocks_dir / f"{plan.chain[1].block}.pte"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
        row = measure(MeasureJob(plan=plan), host, CanaryBook())
        assert row.verdict is Verdict.RUNNER_FAILED
        assert row.reason

    def test_too_little_memory_is_told_and_never_timed(self, host: HostDevice, plan: Plan) -> None:
        limited = plan.protocol.model_copy(update={"memory_limit_bytes": 8 << 20})
        row = measure(MeasureJob(plan=plan.model_copy(update={"protocol": limited})), host, CanaryBook())
        assert row.verdict in (Verdict.OUT_OF_MEMORY, Verdict.RUNNER_FAILED), row.reason  # by what asked for it
        assert row.metrics == {}

    def test_a_wrong_answer_is_never_timed(self, host: HostDevice, plan: Plan) -> None:
        assert plan.check is not None
        wrong = plan.check.model_copy(update={"expected": [[x + 9 for x in row] for row in plan.check.expected]})
        row = measure(MeasureJob(plan=plan.model_copy(update={"check": wrong})), host, CanaryBook())
        assert row.verdict is Verdict.PARITY_FAILED
        assert row.metrics == {}

    def test_a_cancelled_run_ends_early(self, host: HostDevice, plan: Plan) -> None:
        long = plan.protocol.model_copy(update={"repetitions": 100_000})
        events = records(host.run(plan.model_copy(update={"protocol": long}), lambda: True))
        assert events[-1]["code"] == "interrupted"


class TestServedHost(DeviceContract):
    @pytest.fixture
    def device(self, library: BlockLibrary, runner: Path, tmp_path: Path, plan: Plan) -> Iterator[Device]:
        device = filled(ServedHostDevice(tmp_path / "served", runner, "served"), library, plan)
        yield device
        device.close()

    def test_one_process_serves_many_plans(self, device: ServedHostDevice, plan: Plan) -> None:
        device.run(plan, never)
        assert device._process is not None
        pid = device._process.pid
        device.run(plan, never)
        assert device._process.pid == pid

    def test_a_killed_runner_is_started_again(self, device: ServedHostDevice, plan: Plan) -> None:
        device.run(plan, never)
        assert device._process is not None
        os.kill(device._process.pid, signal.SIGKILL)
        device._process.wait()
        assert device.run(plan, never)[-1].event == "end"

    def test_a_plan_that_fails_leaves_the_next_one_alone(self, device: ServedHostDevice, plan: Plan) -> None:
        assert plan.check is not None
        wrong = plan.check.model_copy(update={"expected": [[x + 9 for x in row] for row in plan.check.expected]})
        assert records(device.run(plan.model_copy(update={"check": wrong}), never))[-1]["code"] == "check_failed"
        assert device.run(plan, never)[-1].event == "end"


class TestReplay(DeviceContract):
    @pytest.fixture
    def device(self, host: HostDevice, library: BlockLibrary, plan: Plan, tmp_path: Path) -> Device:
        trace = {"facts": host.facts.model_dump(), "runs": {plan_key(plan): [records(host.run(plan, never))]}}
        path = tmp_path / "trace.json"
        path.write_text(json.dumps(trace))
        return filled(ReplayDevice.load(path), library, plan)

    def test_the_same_row_each_time(self, device: Device, plan: Plan) -> None:
        rows = [measure(MeasureJob(plan=plan, max_half_width=1e9), device, CanaryBook()) for _ in range(2)]
        assert rows[0].metrics == rows[1].metrics

    def test_a_chain_that_was_not_recorded(self, device: Device, plan: Plan) -> None:
        with pytest.raises(DeviceLost, match="has no run"):
            device.run(plan.model_copy(update={"chain": plan.chain[:1]}), never)

    def test_recorded_faults(self, host: HostDevice, plan: Plan) -> None:
        faults = [{"fail": "device_lost"}, {"fail": "killed"}]
        device = ReplayDevice({"facts": host.facts.model_dump(), "default": faults})
        with pytest.raises(DeviceLost):
            device.run(plan, never)
        with pytest.raises(RunnerCrashed):
            device.run(plan, never)


# --- the runner as a process ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("kill -9 $$", "signal 9 after 0 events: no message"),
        ("echo oh no >&2; exit 7", "exit code 7 after 0 events: oh no"),
        ("""echo '{"event": "load"}'; printf '{"event": "rep'; kill -9 $$""", "signal 9 after 1 events"),
        ("true", "exit code 0 after 0 events"),
    ],
)
def test_a_runner_that_ends_without_words(script: str, words: str) -> None:
    with pytest.raises(RunnerCrashed, match=words) as caught:
        run_process(["/bin/sh", "-c", f"cat >/dev/null; {script}"], {}, never)
    assert caught.value.runner_code == "killed"


def test_a_runner_that_dies_before_it_reads_its_plan() -> None:
    with pytest.raises(RunnerCrashed, match="signal 9"):
        run_process(["/bin/sh", "-c", "kill -9 $$"], {"tokens": [0] * 200_000}, never)


def test_an_error_line_ends_a_run() -> None:
    events = parse_run('{"event": "load"}\n{"event": "error", "code": "out_of_memory"}\n', "", 3)
    assert isinstance(events[-1], ErrorEvent) and events[-1].code == "out_of_memory"


def test_a_runner_that_ignores_a_request_to_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module, "GRACE_S", 0.1)
    monkeypatch.setattr(host_module, "POLL_S", 0.05)
    with pytest.raises(RunnerCrashed, match="signal 9"):
        run_process(["/bin/sh", "-c", "trap '' TERM; cat >/dev/null; while :; do :; done"], {}, lambda: True)


@pytest.mark.parametrize(
    "line",
    [
        '{"event": "repetition", "phase": "prefill", "duration_ns": -1}', '{"event": "memory", "vm_hwm_bytes": NaN}',
        '{"event": "memory", "vm_hwm_bytes": 9223372036854775808}', '{"event": "load", "load_ns": "soon"}', "[]", "7",
    ],
)  # fmt: skip
def test_an_event_with_a_senseless_field_ends_the_run_with_a_sentence(line: str) -> None:
    with pytest.raises(RunnerCrashed, match="the runner wrote"):
        parse_run(f'{line}\n{{"event": "end"}}\n', "", 0)


def test_events_of_a_newer_runner_are_kept_as_they_came() -> None:
    line = {"event": "power", "mean_mw": 3.5, "parts": [{"name": "cpu"}]}
    assert records(parse_run(json.dumps(line) + '\n{"event": "end", "more": 1}\n', "", 0)) == [
        line, {"event": "end", "more": 1}
    ]  # fmt: skip


def test_a_runner_that_is_not_there_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HILNAS_RUNNER", str(tmp_path / "none"))
    with pytest.raises(InvalidConfig, match="no runner at"):
        HostDevice(tmp_path / "blocks")


@pytest.mark.e2e
class TestAndroid(DeviceContract):
    """The aarch64 bundle under qemu behind a true adbd."""

    @pytest.fixture(scope="class")
    def device(
        self, phone_bundle: Bundle, library: BlockLibrary, plan: Plan, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[Device]:
        folder = tmp_path_factory.mktemp("phone")
        phone = start(folder / "state")
        device = device_on(phone, phone_bundle, folder)
        device.add_blocks({digest: library.path(digest) for digest in plan.blocks})
        yield device
        device.close()
        phone.close()

    def test_memory_is_read_in_a_pass_of_its_own(self, device: Device, plan: Plan) -> None:
        watched = plan.model_copy(update={"protocol": plan.protocol.model_copy(update={"memory": True})})
        row = measure(MeasureJob(plan=watched, max_half_width=1e9), device, CanaryBook())
        assert row.verdict is Verdict.VALID and row.metrics["peak_rss_bytes"].median > 0
        assert sum(event["event"] == "load" for event in row.events[0]) == 1

    def test_the_condition_of_the_phone_is_in_the_row(self, device: Device, plan: Plan) -> None:
        row = measure(MeasureJob(plan=plan, max_half_width=1e9), device, CanaryBook())
        after = row.environment["after"]
        assert after["measuring_policy"]["mode"] == "fixed_performance" and not after["gate"]["timed_out"]
        assert after["residency"] and after["thermal_status"] == 0 and after["charging_stopped"]
