"""A phone as a device: temperature gate, pinned clocks, cold runs in fresh processes, memory in a separate pass."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import structlog

from contracts.device import DeviceFacts
from contracts.measurement import Verdict
from contracts.plan import Plan
from contracts.runner_events import ErrorEvent, MemoryEvent, RunnerEvent, SpoiledEvent, parse_event, parse_run
from device_agents.bundle.manifest import Bundle
from device_agents.devices.android.condition import (
    SLOWER,
    Limits,
    is_hot,
    mean_khz,
    residency,
    spoiled,
    unfit,
    used_caps,
    with_clock,
)  # fmt: skip
from device_agents.devices.android.facts import phone_facts
from device_agents.devices.android.phone import Phone
from device_agents.devices.android.policy import MeasuringPolicy
from device_agents.devices.android.run import ColdRun, Hot, Pass, RunResult
from device_agents.devices.android.sections import parse_state
from device_agents.devices.android.topology import choose_cores
from device_agents.devices.base import DeviceDefaults
from device_agents.transports.base import ShellResult
from device_agents.transports.errors import PhoneError, PhoneFull
from foundation.measurement_lock import MeasurementLock

log = structlog.get_logger()
IDLE_READING_S = 300.0  # an idle phone's condition is read this often


class AndroidDevice(DeviceDefaults):
    """Everything on the phone goes through ``phone``; ``connect`` first."""

    def __init__(
        self, phone: Phone, bundle: Bundle, name: str | None = None, limits: Limits | None = None,
        stop_charging: bool = True, sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.phone, self.bundle, self.limits = phone, bundle, limits or Limits()
        self.policy = MeasuringPolicy(phone, stop_charging)
        self.state: dict[str, Any] = {}
        self._name, self._sleep, self._clock = name, sleep, clock
        self._facts: DeviceFacts | None = None
        self._blocks: set[str] = set()
        self._session, self._count, self._done_with = "local", 0, ""
        self._fastest_khz: dict[str, float] = {}  # by plan: only runs of the same plan can be compared
        self._read_at, self._problem = 0.0, ""
        self._gate: dict[str, Any] = {}

    def connect(self) -> None:
        """Prepares the phone for its first job: restores settings left by an earlier agent, updates the bundle and the
        block inventory."""
        self.phone.connect()
        self.policy.restore()
        sections = self.phone.sections("facts")
        self.phone.put_bundle(self.bundle)
        held = self.phone.inventory()
        self._blocks = {digest for name, digest in held.items() if name == f"{digest}.pte"}
        self._facts = phone_facts(sections, self.phone.serial, self._name, self.bundle.runner_version)
        self._keep(parse_state(sections))
        log.info("phone_connected", serial=self.phone.serial, model=self._facts.model, blocks=len(self._blocks))

    @property
    def facts(self) -> DeviceFacts:
        assert self._facts is not None, "connect first"
        return self._facts

    # --- between jobs ------------------------------------------------------------------------------------------------

    def ready(self) -> str:
        """Reads the phone's condition if the last reading was bad or is old."""
        if not self._problem and self._clock() - self._read_at < IDLE_READING_S:
            return ""
        try:
            if self._problem:
                self.phone.reconnect(lambda: True)
            self._keep(parse_state(self.phone.sections("state")))
        except PhoneError as error:
            self._problem = str(error)
        else:
            self._problem = self._unfit_sentence()
        if self._problem:
            self.rest()
        return self._problem

    def _unfit(self) -> tuple[Verdict, str] | None:
        """According to the last reading; remembered, so that the phone is read again before the next job."""
        if found := unfit(self.state, self.limits):
            self._problem = found[1]
        return found

    def _unfit_sentence(self) -> str:
        if found := unfit(self.state, self.limits):
            return found[1]
        if is_hot(self.state, self.limits):
            return f"too hot: {self.state.get('battery_c')} C, thermal status {self.state.get('thermal_status')}"
        free = self.state.get("free_bytes", self.limits.min_free_bytes)
        return f"{free / 2**20:.0f} MiB free on the phone" if free < self.limits.min_free_bytes else ""

    def rest(self) -> None:
        """No work: the phone may charge and sleep."""
        if self.policy.boot_id is not None:
            with contextlib.suppress(PhoneError):
                self.policy.restore()

    def close(self) -> None:
        self.rest()
        self.phone.transport.close()

    def begin(self, session: str) -> None:
        self._session, self._count, self._fastest_khz = session, 0, {}

    # --- blocks ------------------------------------------------------------------------------------------------------

    def has_block(self, digest: str) -> bool:
        return digest in self._blocks

    def add_blocks(self, files: Mapping[str, Path], keep: Collection[str] = ()) -> None:
        missing = {digest: path for digest, path in files.items() if digest not in self._blocks}
        if not missing:
            return
        with self._troubles():
            try:
                self.phone.put_blocks(missing, _log_block)
            except PhoneFull:
                self._make_room({*files, *keep})
                self.phone.put_blocks(missing, _log_block)
        self._blocks |= set(missing)

    def _make_room(self, keep: set[str]) -> None:
        """Evicts blocks of other candidates: they are a cache and are fetched again when needed."""
        log.warning("phone_full", serial=self.phone.serial, evicted=len(self._blocks - keep))
        self.phone.evict(sorted(keep))
        self._blocks &= keep

    # --- measuring ---------------------------------------------------------------------------------------------------

    def environment(self) -> dict[str, Any]:
        hidden = ("policies",)
        known = {key: value for key, value in self.state.items() if key not in hidden}
        return {**known, "measuring_policy": self.policy.outcome, "gate": self._gate}

    def run(self, plan: Plan, cancelled: Callable[[], bool]) -> list[RunnerEvent]:
        """Events of the timed pass, including the memory pass's ``memory`` events; a ``phone`` event for each reading,
        and ``spoiled`` if the phone's condition changed during the run."""
        if found := self._unfit():
            return [_spoiled(*found)]
        with self._troubles():
            return self._run(plan, cancelled)

    def _run(self, plan: Plan, cancelled: Callable[[], bool]) -> list[RunnerEvent]:
        self.policy.ensure(self.state.get("boot_id"))
        cores = plan.protocol.affinity or self._cores(plan.protocol.threads)
        result = self._cold_run(plan, cores, cancelled)
        if isinstance(result, Hot):
            self._problem = self._hot_sentence(result)
            return [_spoiled(Verdict.HOT_START, self._problem)]
        return self._events(plan, result, cores)

    @contextlib.contextmanager
    def _troubles(self) -> Iterator[None]:
        """Remembers a failure of the phone, so that it is checked again before the next job."""
        try:
            yield
        except PhoneError as error:
            self._problem = str(error)
            raise

    def _cores(self, threads: int) -> list[int]:
        return choose_cores({core["cpu"]: core["max_khz"] for core in self.facts.details.get("cores", [])}, threads)

    def _cold_run(self, plan: Plan, cores: list[int], cancelled: Callable[[], bool]) -> RunResult | Hot:
        plans = self._passes(plan, cores)
        key = f"{re.sub('[^A-Za-z0-9-]', '_', self._session)}-{plan.digest[:12]}-{self._count}"
        self._count += 1
        run = ColdRun(self.phone, key, self.bundle.digest[:16], plans, self._done_with)
        self._gate = {"waited_s": 0.0, "timed_out": False, "threshold_c": self.limits.max_start_c}
        while True:
            with self._alone():
                result = run.take(self.limits, cancelled, self._returned)
            if not isinstance(result, Hot):
                self._done_with = key
                return result
            if failed := self._check_while_hot(key, plans[0], cancelled):
                return failed
            if not self._cool_down(cancelled):
                return result

    def run_program(self, command: str, cores: list[int], silence_s: float) -> tuple[ShellResult, SpoiledEvent | None]:
        """Another engine's process under the conditions of a cold run: gate, pinned clocks, readings before and after.
        A cut connection loses it (PhoneError); a phone that stays too hot runs nothing."""
        with self._troubles(), self._alone():
            self.policy.ensure(self.state.get("boot_id"))
            self._keep(parse_state(self.phone.sections("state")))
            self._gate = {"waited_s": 0.0, "timed_out": False, "threshold_c": self.limits.max_start_c}
            if is_hot(self.state, self.limits) and not self._cool_down(lambda: False):
                hot = Hot(self.state.get("battery_c", 0.0), self.state.get("thermal_status", 0))
                return ShellResult(0, "", ""), _spoiled(Verdict.HOT_START, self._hot_sentence(hot))
            before = self.state
            reply = self.phone.shell(command, timeout_s=silence_s)
            self._keep(parse_state(self.phone.sections("state")))
        found = self._unfit() or spoiled(before, self.state, cores)
        return reply, _spoiled(*found) if found else None

    def _passes(self, plan: Plan, cores: list[int]) -> list[dict[str, Any]]:
        """The timed pass, and for a protocol with memory a second one that only reads memory: walking a process's maps
        costs time, and its peak must not include a canary."""
        pinned = plan.protocol.model_copy(update={"affinity": cores or None, "memory": False})
        timed = plan.model_copy(update={"protocol": pinned})
        passes = [timed.to_runner(f"{self.phone.root}/blocks")]
        if plan.protocol.memory:
            once = {"memory": True, "repetitions": 1, "decode_repetitions": 1, "warmup": 0, "block_times": False}
            only = {"protocol": pinned.model_copy(update=once), "canary": None, "check": None, "verify_digests": False}
            passes.append(timed.model_copy(update=only).to_runner(f"{self.phone.root}/blocks"))
        return passes

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        """A virtual phone computes on this host's cores, so it needs the host's lock; a real one does not."""
        return MeasurementLock().exclusive() if self.facts.details.get("virtual") else contextlib.nullcontext()

    def _returned(self) -> None:
        """Called after a reconnection: a reboot resets clocks and charging policy."""
        self._keep(parse_state(self.phone.sections("state")))
        self.policy.ensure(self.state.get("boot_id"))

    # --- too hot -----------------------------------------------------------------------------------------------------

    def _check_while_hot(self, key: str, timed: dict[str, Any], cancelled: Callable[[], bool]) -> RunResult | None:
        """The parity gate does not need a cool phone: a wrong program fails without waiting for cooling."""
        if self._gate["waited_s"] or not timed.get("check"):
            return None
        protocol = {**timed["protocol"], "prefill_lengths": [], "decode_contexts": [], "repetitions": 1, "warmup": 0}
        plan = {**{k: v for k, v in timed.items() if k != "canary"}, "protocol": protocol}
        run = ColdRun(self.phone, f"{key}-check", self.bundle.digest[:16], [plan])
        with self._alone():
            result = run.take(Limits(max_start_c=999.0, max_status=99), cancelled, self._returned)
        run.drop()
        assert isinstance(result, RunResult)
        return result if result.passes and result.passes[0].exit_code else None

    def _cool_down(self, cancelled: Callable[[], bool]) -> bool:
        """Waits until the phone is below the gate, doing other work if there is some; False after the longest wait."""
        log.info("phone_cooling", serial=self.phone.serial, threshold_c=self.limits.max_start_c)
        while self._gate["waited_s"] < self.limits.wait_s and not cancelled():
            started = self._clock()
            if not self.while_cooling():
                self._sleep(self.limits.poll_s)
            self._gate["waited_s"] = round(self._gate["waited_s"] + self._clock() - started, 1)
            self._keep(parse_state(self.phone.sections("state")))
            if not is_hot(self.state, self.limits):
                return True
        self._gate["timed_out"] = True
        return False

    def _hot_sentence(self, hot: Hot) -> str:
        return (
            f"battery at {hot.battery_c:.1f} C (gate {self.limits.max_start_c:.1f} C), thermal status "
            f"{hot.thermal_status}, still after {self._gate['waited_s']:.0f} s"
        )

    # --- what came back ----------------------------------------------------------------------------------------------

    def _events(self, plan: Plan, result: RunResult, cores: list[int]) -> list[RunnerEvent]:
        shares = residency(result.before, result.after)
        self._keep(result.before)
        unfit_at_start = self._unfit()
        self._keep({**result.after, "residency": shares})
        runner_s = [one.seconds for one in result.passes]
        events = [
            _reading("before", result.before, gate=self._gate),
            _reading("after", result.after, residency=shares, runner_s=runner_s),
        ]
        used = set(used_caps(result.before, cores))
        found = unfit_at_start or spoiled(result.before, result.after, cores)
        found = found or self._slower(plan, mean_khz(shares, used))
        if found:
            events.append(_spoiled(*found))
        return [*events, *join_passes(result.passes)]

    def _slower(self, plan: Plan, mean: float) -> tuple[Verdict, str] | None:
        fastest = self._fastest_khz[plan.digest] = max(self._fastest_khz.get(plan.digest, 0.0), mean)
        if mean >= SLOWER * fastest:
            return None
        return Verdict.THROTTLED, (
            f"mean frequency {mean / 1e6:.2f} GHz, {mean / fastest:.0%} of the session's fastest run"
        )

    def _keep(self, state: dict[str, Any]) -> None:
        self.state, self._read_at = with_clock(state, self.state, time.time()), self._clock()


def _log_block(digest: str, num_bytes: int) -> None:
    log.info("block_pushed", block=digest[:12], bytes=num_bytes)


def join_passes(passes: list[Pass]) -> list[RunnerEvent]:
    """The timed pass's events with the memory pass's readings merged in; an error of the memory pass ends the run.

    Raises RunnerCrashed when a pass ended without an end or error event.
    """
    events: list[RunnerEvent] = []
    for one in passes:
        lines = parse_run(one.lines, one.stderr, one.exit_code)
        if not events or isinstance(lines[-1], ErrorEvent):
            events += lines
        else:
            events[-1:-1] = [line for line in lines if isinstance(line, MemoryEvent)]
    return events or parse_run("", "the phone kept no result", 1)


def _reading(at: str, state: dict[str, Any], **more: Any) -> RunnerEvent:
    known = {key: value for key, value in state.items() if key != "policies"}
    return parse_event({"event": "phone", "at": at, **known, **{key: value for key, value in more.items() if value}})


def _spoiled(verdict: Verdict, reason: str) -> SpoiledEvent:
    return SpoiledEvent(event="spoiled", verdict=verdict, reason=reason)
