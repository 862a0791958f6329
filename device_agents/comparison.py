"""Models measured in turn on one device: each round is one cold run of every model, in an order that changes from round
to round, so that what the device does over minutes falls on all alike. Each finished cold run is kept at once: a
session that was cut off goes on where it stopped."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from contracts.job import MeasureJob
from contracts.measurement import Measurement
from contracts.plan import Plan
from contracts.runner_events import parse_event, records
from device_agents.canary import CanaryBook
from device_agents.devices.base import Device
from device_agents.journal import Journal
from device_agents.session import Samples, Session, collect, failed_row, summarize, take_run
from foundation.errors import DeviceLost, RunnerCrashed

MAX_HALF_WIDTH = 0.25  # of an interval over its median; the paired ratio of two models is much narrower
Told = Callable[[int, str], None]


@dataclass(frozen=True)
class Entrant:
    """A plan under the name that its user gave it. ``device`` runs it; another engine has a device of its own."""

    name: str
    plan: Plan
    device: Device


@dataclass
class Series:
    """The cold runs of one entrant: ``rounds[i]`` is the round of ``session.runs[i]``, and ``seconds[i]`` what it took.
    One that failed runs no more."""

    entrant: Entrant
    session: Session = field(default_factory=Session)
    rounds: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    failure: RunnerCrashed | None = None
    environment: dict[str, Any] = field(default_factory=dict)

    def clean(self) -> dict[int, Samples]:
        """Round -> samples, without the runs that the session sets aside."""
        kept = [id(run) for run in self.session.clean()]
        return {turn: run for turn, run in zip(self.rounds, self.session.runs, strict=True) if id(run) in kept}


def order_of_round(count: int, turn: int) -> list[int]:
    """Rounds come in pairs, the second in the reverse order of the first; every pair begins one model later."""
    start = turn // 2 % count
    rotated = [*range(start, count), *range(start)]
    return rotated[::-1] if turn % 2 else rotated


def needed_runs(rounds: int) -> int:
    """Undisturbed cold runs that a valid row has."""
    return max(2, math.ceil(2 * rounds / 3))


def measure_in_turn(
    entrants: Sequence[Entrant], rounds: int, journal: Journal, told: Told = lambda turn, name: None
) -> list[Series]:
    """``rounds`` rounds, and up to as many again while a model has too few undisturbed runs.

    Raises DeviceLost when the device is gone or cannot measure now; what was finished is in ``journal``.
    """
    series = restored(entrants, journal)
    for one in series:
        one.environment["before"] = one.entrant.device.environment()
    turn = 0
    while needs_round(series, turn, rounds):
        for index in order_of_round(len(series), turn):
            one = series[index]
            if one.failure is None and turn not in one.rounds:
                told(turn, one.entrant.name)
                _take(one, turn, journal)
        turn += 1
    for one in series:
        one.environment["after"] = one.entrant.device.environment()
    return series


def needs_round(series: Sequence[Series], turn: int, rounds: int) -> bool:
    running = [one for one in series if one.failure is None]
    if turn < rounds or not running:
        return bool(running)
    short = any(len(one.clean()) < needed_runs(rounds) for one in running)
    return short and turn < 2 * rounds


def restored(entrants: Sequence[Entrant], journal: Journal) -> list[Series]:
    """With the cold runs that an earlier, broken session left."""
    series = {one.name: Series(one) for one in entrants}
    for record in journal.records:
        one = series[record["name"]]
        events = [parse_event(event) for event in record["events"]]
        one.session.events.append(events)
        one.session.runs.append(collect(events, one.entrant.plan))
        one.rounds.append(record["round"])
        one.seconds.append(record["seconds"])
    return list(series.values())


def _take(one: Series, turn: int, journal: Journal) -> None:
    at, start = time.time(), time.monotonic()
    try:
        take_run(one.entrant.plan, one.entrant.device, one.session, lambda: False)
    except RunnerCrashed as error:
        one.failure = error
        return
    if one.session.unfit:  # not kept: the next session may find it cool and charged
        spoiled = one.session.runs[-1].spoiled
        raise DeviceLost(f"{spoiled[1] if spoiled else 'the device cannot measure now'}. {kept_sentence(journal)}")
    one.rounds.append(turn)
    one.seconds.append(time.monotonic() - start)
    events = records(one.session.events[-1])
    journal.add({"round": turn, "name": one.entrant.name, "at": at, "seconds": one.seconds[-1], "events": events})


def kept_sentence(journal: Journal) -> str:
    return f"{len(journal.records)} finished cold runs are kept; the same command goes on from there"


def measurement_of(one: Series, rounds: int, canaries: CanaryBook) -> Measurement:
    """The row of a series, with a verdict in any case."""
    plan, session, start = one.entrant.plan, one.session, time.monotonic()
    if one.failure is not None:
        return failed_row(plan, one.failure, session, one.environment, start)
    job = MeasureJob(plan=plan, cold_repeats=needed_runs(rounds), max_half_width=MAX_HALF_WIDTH)
    try:
        return summarize(job, session, Session(), canaries, one.environment, 0.0)
    except ValidationError as error:
        what = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        return failed_row(plan, RunnerCrashed("implausible", what), session, one.environment, start)
