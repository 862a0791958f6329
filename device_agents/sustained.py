"""Decoding without a pause for minutes: what is left of a model's speed once the device is warm."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from contracts.comparison import Sustained
from contracts.plan import Plan
from contracts.runner_events import ErrorEvent, RepetitionEvent, RunnerEvent, SpoiledEvent
from device_agents.comparison import Entrant
from foundation.errors import RunnerCrashed

MAX_MINUTES = 25  # a runner is ended after 30
WINDOW_S = 60.0
TOKENS = 64  # of a repetition


def sustained_plan(plan: Plan, context: int, minutes: float, ms_per_token: float) -> Plan:
    """One process that decodes at ``context`` for about ``minutes``, without canary and prompt."""
    repetitions = max(2, math.ceil(minutes * 60_000 / (TOKENS * ms_per_token)))
    protocol = plan.protocol.model_copy(
        update={
            "name": "sustained", "prefill_lengths": [], "decode_contexts": [context], "decode_tokens": TOKENS,
            "repetitions": 1, "decode_repetitions": repetitions, "warmup": 0, "block_times": False,
        }
    )  # fmt: skip
    cache = plan.cache.model_copy(update={"capacity": max(plan.cache.capacity, protocol.capacity)})
    return plan.model_copy(update={"protocol": protocol, "cache": cache, "canary": None})


def sustain(entrant: Entrant, context: int, minutes: float, ms_per_token: float) -> Sustained:
    """Throttling is what is measured here, so a run that was throttled counts; the note says that it was.

    Raises RunnerCrashed when the runner failed or nothing was timed (a phone that is too hot to begin).
    """
    events = entrant.device.run(sustained_plan(entrant.plan, context, minutes, ms_per_token), lambda: False)
    if isinstance(events[-1], ErrorEvent):
        raise RunnerCrashed(events[-1].code, events[-1].message)
    notes = [event.reason for event in events if isinstance(event, SpoiledEvent)]
    tokens = token_ms(events)
    if not tokens:
        raise RunnerCrashed("nothing_timed", notes[0] if notes else "no token was timed")
    first, last, window_s = ends(tokens)
    return Sustained(
        name=entrant.name, metric=f"decode_ms@{context}", seconds=sum(tokens) / 1000, window_s=window_s, first_ms=first,
        last_ms=last, num_tokens=len(tokens), note="; ".join(notes),
    )  # fmt: skip


def token_ms(events: Sequence[RunnerEvent]) -> list[float]:
    repetitions = [event for event in events if isinstance(event, RepetitionEvent) and event.phase == "decode"]
    return [ns / 1e6 for event in repetitions if not event.warmup for ns in event.token_ns]


def ends(tokens: Sequence[float]) -> tuple[float, float, float]:
    """Medians of the first and the last minute, or of the halves of a shorter run, and the window in seconds."""
    total = sum(tokens)
    window = min(1000 * WINDOW_S, total / 2)
    first, last, passed = [], [], 0.0
    for ms in tokens:
        if passed < window:
            first.append(ms)
        passed += ms
        if passed > total - window:
            last.append(ms)
    return statistics.median(first), statistics.median(last), window / 1000


def order_flips(rows: Sequence[Sustained]) -> list[tuple[str, str]]:
    """Pairs of which the first was faster at the beginning and the second at the end."""
    return [
        (a.name, b.name)
        for a in rows
        for b in rows
        if a.first_ms < b.first_ms and a.last_ms > b.last_ms
    ]  # fmt: skip
