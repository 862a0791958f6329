"""A phone as a device, over a phone made of files: cold runs through cuts, gates, policy, what is left behind."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from contracts.job import MeasureJob
from contracts.measurement import Verdict
from contracts.plan import Check, Protocol
from device_agents.canary import CanaryBook
from device_agents.devices.android.condition import Limits
from device_agents.devices.android.device import AndroidDevice
from device_agents.devices.android.doctor import examine, unfit_sentence
from device_agents.devices.android.phone import Phone
from device_agents.llama_bench import PhoneLlamaBench
from device_agents.session import collect, measure
from device_agents.transports.errors import PhoneError, PhoneFull, PhoneOffline
from foundation.errors import DeviceLost, InvalidConfig
from tests.doubles.llama_bench import fake_llama_bench
from tests.phones.local import CutOnce, LocalPhone, LocalTransport, block, wait_until
from tests.unit.test_session import STEADY, plan_of

NEVER: Callable[[], bool] = lambda: False  # noqa: E731
JOB = MeasureJob(plan=plan_of(canary=False), max_half_width=1.0)
LIMITS = Limits(poll_s=5.0, wait_s=60.0, min_free_bytes=0)


class Clock:
    """Time that passes only in ``sleep``; ``then`` is called after each."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, 0
        self.then: Callable[[], None] = lambda: None

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += 1
        self.then()


@pytest.fixture
def local(tmp_path: Path) -> LocalPhone:
    phone = LocalPhone(tmp_path / "phone")
    phone.write("events", "\n".join(json.dumps(event) for event in STEADY) + "\n")
    return phone


def device_of(local: LocalPhone, fail: Callable[[str], None] = lambda what: None, clock: Clock | None = None) -> (
    AndroidDevice
):  # fmt: skip
    clock = clock or Clock()
    transport = LocalTransport(local, fail)
    phone = Phone(transport, part_bytes=1000, reconnect_s=30.0, sleep=clock.sleep, clock=clock)
    device = AndroidDevice(phone, local.bundle(), limits=LIMITS, sleep=clock.sleep, clock=clock)
    device.connect()
    return device


def told(device: AndroidDevice) -> list[str]:
    """What went over the wire, by verb."""
    log = device.phone.transport.log  # type: ignore[attr-defined]
    return [words.split()[3] if words.startswith("shell sh") else words.split()[0] for words in log]


def test_a_valid_row_costs_three_round_trips_and_a_small_plan(local: LocalPhone) -> None:
    device = device_of(local)
    measure(JOB, device, CanaryBook())
    device.phone.transport.log.clear()  # type: ignore[attr-defined]
    sent = device.phone.transport.traffic.bytes_pushed
    row = measure(JOB, device, CanaryBook())
    assert row.verdict is Verdict.VALID, row.reason
    assert told(device) == ["push", "run", "pull"]
    assert device.phone.transport.traffic.bytes_pushed - sent < 4096
    assert row.environment["after"]["battery_c"] == 30.0
    assert row.environment["after"]["measuring_policy"]["caps_khz"] == {"0": 2_000_000}
    assert [event["at"] for event in row.events[0] if event["event"] == "phone"] == ["before", "after"]


def test_memory_is_a_pass_of_its_own(local: LocalPhone) -> None:
    local.runner('cp "$PLAN" "$P/seen-$(basename $PLAN)"; cat "$P/events"')
    device = device_of(local)
    plan = JOB.plan.model_copy(update={"protocol": JOB.plan.protocol.model_copy(update={"memory": True})})
    events = device.run(plan, NEVER)
    timed, memory = (json.loads((local.folder / f"seen-pass-{n}.json").read_text()) for n in (1, 2))
    assert not timed["protocol"]["memory"] and memory["protocol"]["memory"] and "canary" not in memory
    assert timed["protocol"]["affinity"] == [0, 1] == memory["protocol"]["affinity"]
    assert [e.event for e in events].count("memory") == 2 and events[-1].event == "end"


def test_a_cut_in_mid_run_finds_the_run_again(local: LocalPhone) -> None:
    local.runner('echo run >>"$P/runs"; sleep 0.4; cat "$P/events"')
    cuts = CutOnce("pull", down=3)
    device = device_of(local, cuts)
    row = measure(JOB, device, CanaryBook())
    assert cuts.cut and row.verdict is Verdict.VALID
    assert (local.folder / "runs").read_text().split() == ["run"]


def test_a_killed_agent_finds_its_finished_run(local: LocalPhone) -> None:
    local.runner('echo run >>"$P/runs"; cat "$P/events"')
    first = device_of(local)
    first.begin("job-1")
    first.run(JOB.plan, NEVER)
    second = device_of(local)
    second.begin("job-1")
    assert second.run(JOB.plan, NEVER)[-1].event == "end"
    assert (local.folder / "runs").read_text().split() == ["run"]


def test_a_reboot_in_mid_run_starts_it_afresh_with_the_policy_applied_anew(local: LocalPhone) -> None:
    local.runner('echo run >>"$P/runs"; [ -f "$P/second" ] || { touch "$P/second"; sleep 30; }; cat "$P/events"')
    device = device_of(local)
    rebooted: list[str] = []

    def reboot(what: str) -> None:
        running = list((local.root / "runs").glob("*/pid"))
        if what == "tick" and running and not rebooted:
            rebooted.append("yes")
            for pid in running:
                os.killpg(int(pid.read_text()), signal.SIGKILL)
            local.write("proc/sys/kernel/random/boot_id", "boot-2")
            raise PhoneOffline("local", "rebooting")

    row = measure(JOB, device, CanaryBook(), lambda: bool(reboot("tick")))
    assert rebooted and row.verdict is Verdict.VALID, row.reason
    assert (local.folder / "runs").read_text().split() == ["run", "run"]
    assert (local.folder / "log").read_text().count("set-fixed-performance-mode-enabled true") == 2


def test_a_phone_that_never_comes_back_is_lost(local: LocalPhone) -> None:
    device = device_of(local, CutOnce(" run ", down=10_000))
    with pytest.raises(DeviceLost, match="still away"):
        measure(JOB, device, CanaryBook())


def test_a_hot_phone_is_waited_for_and_other_work_is_done_meanwhile(local: LocalPhone) -> None:
    clock = Clock()
    device = device_of(local, clock=clock)
    local.write("temperature", "410")
    work = [True, True, False]
    device.while_cooling = lambda: work.pop(0) if work else False
    clock.then = lambda: local.write("temperature", "300")
    row = measure(JOB, device, CanaryBook())
    assert row.verdict is Verdict.VALID and not work and clock.slept == 1
    before = next(event for event in row.events[0] if event["event"] == "phone")
    assert before["gate"] == {"waited_s": 5.0, "timed_out": False, "threshold_c": 37.0}


def test_a_phone_that_stays_hot_is_a_hot_start_with_nothing_timed(local: LocalPhone) -> None:
    local.runner('echo run >>"$P/runs"; cat "$P/events"')
    clock = Clock()
    device = device_of(local, clock=clock)
    local.write("status", "2")
    row = measure(JOB, device, CanaryBook())
    assert row.verdict is Verdict.HOT_START and "thermal status 2" in row.reason and not row.metrics
    assert row.environment["after"]["gate"]["timed_out"] and not (local.folder / "runs").exists()


def test_a_wrong_program_costs_no_cooling(local: LocalPhone) -> None:
    local.runner('echo \'{"event":"error","code":"check_failed","message":"logits differ"}\'; exit 17')
    clock = Clock()
    device = device_of(local, clock=clock)
    local.write("temperature", "450")
    check = Check(tokens=[1], chunks=[1], probe_ids=[0], expected=[[0.0]], expected_argmax=[0], max_abs_error=1.0)
    row = measure(JOB.model_copy(update={"plan": JOB.plan.model_copy(update={"check": check})}), device, CanaryBook())
    assert row.verdict is Verdict.PARITY_FAILED and clock.slept == 0


def test_throttling_inside_the_run(local: LocalPhone) -> None:
    local.runner('echo 1 >"$P/status"; cat "$P/events"')
    device = device_of(local)
    row = measure(JOB.model_copy(update={"max_repeats": 1}), device, CanaryBook())
    assert row.verdict is Verdict.THROTTLED and "rose from 0 to 1" in row.reason


def test_a_low_battery_measures_nothing_and_stops_the_leasing(local: LocalPhone) -> None:
    device = device_of(local)
    measure(JOB, device, CanaryBook())
    device.state["battery_level"] = 9
    row = measure(JOB, device, CanaryBook())
    assert row.verdict is Verdict.LOW_BATTERY
    local.write("level", "10")
    assert "battery at 10 %" in device.ready()
    assert (local.folder / "log").read_text().rstrip().endswith("reset")  # it may charge meanwhile
    local.write("level", "60")
    assert device.ready() == ""


def test_everything_is_put_back(local: LocalPhone) -> None:
    local.write("settings-system-screen_brightness", "87\n")
    device = device_of(local)
    measure(JOB, device, CanaryBook())
    assert (local.folder / "settings-system-screen_brightness").read_text() == "1\n"
    assert (local.root / "restore.sh").exists()
    device.close()
    assert (local.folder / "settings-system-screen_brightness").read_text() == "87\n"
    assert not (local.folder / "settings-system-screen_off_timeout").exists()
    log = (local.folder / "log").read_text().split("\n")
    assert "unplug" in log and "reset" in log[log.index("unplug") :]
    assert "cmd power set-fixed-performance-mode-enabled false" in log


def test_what_a_killed_agent_left_is_put_back_at_the_next_start(local: LocalPhone) -> None:
    measure(JOB, device_of(local), CanaryBook())
    assert (local.root / "restore.sh").exists()
    device_of(local)
    assert not (local.root / "restore.sh").exists()


def test_the_phone_puts_itself_back_when_no_host_is_heard_of(local: LocalPhone) -> None:
    local.write("settings-system-screen_brightness", "87\n")
    device = device_of(local)
    measure(JOB, device, CanaryBook())
    # the watchdog looks once a minute; a broken one is let out of its loop after three looks and fails the test
    looks = local.folder / "looks"
    give_up = f"echo x >>{looks}; [ $(wc -l <{looks}) -lt 3 ] || rm -f {local.root}/restore.sh"
    local.write("bin/sleep", f"#!/bin/sh\n{give_up}\n")
    (local.folder / "bin" / "sleep").chmod(0o755)
    long_ago = time.time() - 16 * 60
    os.utime(local.root / "alive", (long_ago, long_ago))
    device.phone.verb("guard")
    assert (local.folder / "settings-system-screen_brightness").read_text() == "87\n"
    assert not (local.root / "restore.sh").exists()


def test_a_cancelled_job_ends_on_the_phone_too(local: LocalPhone) -> None:
    local.runner("sleep 60")
    device = device_of(local)
    asked: list[float] = []

    def cancelled() -> bool:
        asked.append(time.monotonic())
        return len(asked) > 2

    with pytest.raises(DeviceLost, match="cancelled"):
        measure(JOB, device, CanaryBook(), cancelled)
    wait_until(lambda: not list((local.root / "runs").iterdir()))


def test_a_runner_without_words_is_tried_once_more(local: LocalPhone) -> None:
    local.runner('[ -f "$P/second" ] && cat "$P/events" || { touch "$P/second"; kill -9 $$; }')
    row = measure(JOB, device_of(local), CanaryBook())
    assert row.verdict is Verdict.VALID


def test_blocks_arrive_whole_in_parts_and_after_cuts(local: LocalPhone, tmp_path: Path) -> None:
    device = device_of(local, CutOnce(".part", at=3))
    digest, path = block(tmp_path, 5500)
    small, small_path = block(tmp_path, 10, fill=3)
    sent = device.phone.transport.traffic.bytes_pushed
    device.add_blocks({digest: path, small: small_path})
    assert (local.root / "blocks" / f"{digest}.pte").read_bytes() == path.read_bytes()
    assert device.phone.transport.traffic.bytes_pushed - sent == 5510, "what had arrived was sent again"
    assert device.has_block(small) and device_of(local).has_block(digest)


def test_a_block_that_arrives_damaged_is_sent_again_and_then_given_up(local: LocalPhone, tmp_path: Path) -> None:
    device = device_of(local)
    digest, path = block(tmp_path, 10)
    path.write_bytes(b"something else")
    with pytest.raises(PhoneError, match="3 times in a row"):
        device.add_blocks({digest: path})
    assert not device.has_block(digest) and not list((local.root / "blocks").iterdir())


def test_a_full_phone_gives_up_blocks_of_other_candidates(local: LocalPhone, tmp_path: Path) -> None:
    full: list[str] = []

    def fail(what: str) -> None:
        if full and full[0] in what:
            full.clear()
            raise PhoneFull("local", what)

    device = device_of(local, fail)
    (old, old_path), (kept, kept_path), (new, new_path) = (block(tmp_path, 10, fill) for fill in (1, 2, 3))
    device.add_blocks({old: old_path, kept: kept_path})
    full.append(new)
    device.add_blocks({new: new_path}, keep=[kept, new])
    assert device.has_block(new) and device.has_block(kept) and not device.has_block(old)
    assert {path.stem for path in (local.root / "blocks").iterdir()} == {new, kept}


def test_names_from_outside_never_become_commands(local: LocalPhone, tmp_path: Path) -> None:
    device = device_of(local)
    device.begin("job; touch owned")
    assert measure(JOB, device, CanaryBook()).verdict is Verdict.VALID
    with pytest.raises(InvalidConfig, match="sha256"):
        device.add_blocks({"../../evil": tmp_path / "x"})
    assert not (local.folder / "owned").exists()


def test_a_block_that_rotted_on_the_phone_is_not_trusted(local: LocalPhone, tmp_path: Path) -> None:
    digest, path = block(tmp_path, 10)
    device_of(local).add_blocks({digest: path})
    (local.root / "blocks" / f"{digest}.pte").write_bytes(b"rot")
    assert not device_of(local).has_block(digest)


def test_the_bundle_is_pushed_once(local: LocalPhone) -> None:
    first = device_of(local)
    second = device_of(local)
    assert any("hilnas-runner" in what for what in first.phone.transport.log if what.startswith("push"))  # type: ignore[attr-defined]
    assert not any(what.startswith("push") for what in second.phone.transport.log)  # type: ignore[attr-defined]


def test_the_doctor_passes_a_sound_phone_and_refuses_one_without_thermal_readings(local: LocalPhone) -> None:
    findings = {finding.name: finding for finding in examine(device_of(local), threads=2)}
    assert unfit_sentence(list(findings.values())) == "", findings
    assert findings["clocks"].found == "fixed-performance mode: policy0 2.00 GHz"
    local.write("bin/dumpsys", "#!/bin/sh\nexit 1\n")
    refused = unfit_sentence(examine(device_of(local), threads=2))
    assert "thermal: temperature or thermal status cannot be read; reboot the phone" in refused


def test_another_engine_runs_pinned_under_the_conditions_of_a_cold_run(local: LocalPhone, tmp_path: Path) -> None:
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    clock, core = Clock(), min(os.sched_getaffinity(0))
    device = device_of(local, clock=clock)
    protocol = Protocol(prefill_lengths=[64], decode_contexts=[128], affinity=[core])
    bench = PhoneLlamaBench(device, fake_llama_bench(tmp_path), tmp_path / "other.gguf", protocol)
    bench.prepare()
    assert [path.name for path in local.root.glob("llama-*/*")] == ["llama-bench"]
    assert set(collect(bench.run(bench.plan, NEVER), bench.plan).by_metric) == {"prefill_ms@64", "decode_ms@128"}
    assert "cmd power set-fixed-performance-mode-enabled true" in (local.folder / "log").read_text()
    local.write("temperature", "410")
    clock.then = lambda: local.write("temperature", "300" if clock.slept > 2 else "410")
    assert len(bench.run(bench.plan, NEVER)) > 1 and clock.slept == 3, "it waited until the phone was cool"
    clock.then = lambda: local.write("temperature", "410")
    local.write("temperature", "410")
    (spoiled,) = bench.run(bench.plan, NEVER)
    assert spoiled.record["verdict"] == Verdict.HOT_START and "still after 60 s" in spoiled.record["reason"]
