"""One cold run on a phone: send the plan, survive lost connections, fetch the result. Independent of what is
measured."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from device_agents.devices.android.condition import Limits
from device_agents.devices.android.phone import Phone
from device_agents.devices.android.sections import parse_state, split_sections
from device_agents.transports.errors import PhoneOffline
from foundation.errors import DeviceLost

log = structlog.get_logger()
SILENCE_S = 60.0  # the phone prints a line every two seconds
MAX_CUTS = 20  # of the connection, during one cold run
MAX_LOST = 3  # a run that the phone lost (reboot, killed shell) is started again


class JobCancelled(DeviceLost):
    """The study no longer needs this result."""


@dataclass(frozen=True)
class Pass:
    """The output of one runner process: its lines, exit code and stderr; ``seconds`` from start to exit."""

    lines: str
    exit_code: int
    stderr: str
    seconds: float = 0.0


@dataclass(frozen=True)
class RunResult:
    before: dict[str, Any]
    after: dict[str, Any]
    passes: list[Pass]


@dataclass(frozen=True)
class Hot:
    """The run was not started: the phone is above the gate."""

    battery_c: float
    thermal_status: int


class ColdRun:
    """``key`` names the run on the phone: the same key finds a run that was already started or finished."""

    def __init__(self, phone: Phone, key: str, bundle: str, plans: list[dict[str, Any]], done_with: str = "") -> None:
        self._phone, self._key, self._bundle, self._done_with = phone, key, bundle, done_with
        self._text = "".join(json.dumps(plan, separators=(",", ":")) + "\n" for plan in plans)
        self._sent = False

    def take(self, limits: Limits, cancelled: Callable[[], bool], on_return: Callable[[], None]) -> RunResult | Hot:
        """Starts the run, or finds it again, and returns its result. ``on_return`` is called after every reconnection,
        before any other command."""
        lost = cuts = 0
        while True:
            try:
                reply = self._ask(limits, cancelled)
                if reply == "finished":
                    return self._fetch()
            except PhoneOffline as error:
                cuts += 1
                log.warning("phone_cut_off", serial=self._phone.serial, run=self._key, reason=str(error))
                if cuts > MAX_CUTS:
                    raise
                self._phone.reconnect(cancelled)
                on_return()
                continue
            except FileNotFoundError:
                reply = "its result is gone"
            if reply.startswith("hot"):
                _, tenths, status = reply.split()
                return Hot(int(tenths) / 10, int(status))
            lost += 1
            log.warning("run_lost_on_phone", serial=self._phone.serial, run=self._key, reply=reply)
            if lost >= MAX_LOST:
                raise DeviceLost(
                    f"phone {self._phone.serial} lost the run {lost} times in a row: {reply or 'no answer'}"
                )
            self.drop()

    def drop(self) -> None:
        """Ends the run if it is running and removes it from the phone."""
        self._phone.drop_runs([self._key])
        self._sent = False

    def _ask(self, limits: Limits, cancelled: Callable[[], bool]) -> str:
        if not self._sent:
            self._send()
        last = [""]

        def heard(line: str) -> None:
            if cancelled():
                raise JobCancelled("the job was cancelled")
            if line.strip() not in ("", "."):
                last[0] = line.strip()

        gate = [str(round(limits.max_start_c * 10)), str(limits.max_status)]
        try:
            done = self._phone.verb(
                "run", self._key, self._bundle, *gate, self._done_with, timeout_s=SILENCE_S, on_line=heard
            )
        except JobCancelled:
            self._phone.reconnect()
            self.drop()
            raise
        return last[0] or done.stderr.strip()

    def _send(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "plan.gz"
            path.write_bytes(gzip.compress(self._text.encode(), mtime=0))
            self._phone.transport.push(path, f"{self._phone.root}/runs/{self._key}/plan.gz")
        self._sent = True

    def _fetch(self) -> RunResult:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "result"
            self._phone.transport.pull(f"{self._phone.root}/runs/{self._key}/result", path)
            return parse_result(path.read_text(errors="replace"))


def parse_result(text: str) -> RunResult:
    sections = split_sections(text)
    states = [parse_state(split_sections(sections.get(f"file {name}", ""), "=-= ")) for name in ("before", "after")]
    passes = [_pass(sections, n) for n in (1, 2) if f"code {n}" in sections]
    return RunResult(states[0], states[1], passes)


def _pass(sections: dict[str, str], n: int) -> Pass:
    code, began, ended = [*sections[f"code {n}"].split(), "1", "0", "0"][:3]
    took = round(float(ended) - float(began), 2)
    return Pass(sections.get(f"pass {n}", ""), int(code), sections.get(f"words {n}", ""), took)
