"""What a runner reports about one cold run, one JSON object per line: typed events and one parser for all devices.

The fields are those of docs/runner.md. Unknown fields and events of unknown kinds are kept as they are, so that an
agent can serve a newer runner; known fields must have the right type.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from contracts.measurement import Verdict
from foundation.errors import RunnerCrashed

Count = Annotated[int, Field(ge=0, lt=1 << 63)]


class RunnerEvent(BaseModel):
    """Base of all events, and the type of events of unknown kinds."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    event: str

    @property
    def record(self) -> dict[str, Any]:
        """The line as received."""
        return self.model_dump(mode="json", exclude_unset=True)


class LoadEvent(RunnerEvent):
    event: Literal["load"] = "load"
    load_ns: Count | None = None


class CheckEvent(RunnerEvent):
    """``sqnr_db`` is absent when the outputs are equal."""

    event: Literal["check"] = "check"
    passed: bool = True
    max_abs_error: FiniteFloat | None = None
    sqnr_db: FiniteFloat | None = None
    token_agreement: FiniteFloat | None = None


class MemoryEvent(RunnerEvent):
    event: Literal["memory"] = "memory"
    at: str = ""
    vm_hwm_bytes: Count


class RepetitionEvent(RunnerEvent):
    """One timed pass. ``length`` of a prefill, ``context`` and ``token_ns`` of a decode; times in nanoseconds."""

    event: Literal["repetition"] = "repetition"
    phase: str
    duration_ns: Count
    warmup: bool = False
    length: Count | None = None
    context: Count | None = None
    token_ns: list[Count] = []
    block_ns: list[Count] = []
    custom_ns: Count | None = None
    canary_ns: Count | None = None
    cpu: Count | None = None


class EndEvent(RunnerEvent):
    event: Literal["end"] = "end"
    forward_ns: Count = 0


class ErrorEvent(RunnerEvent):
    """The last line of a failed run, possibly the only one; ``code`` is one of the runner's error codes."""

    event: Literal["error"] = "error"
    code: str = "unknown"
    message: str = ""


class SpoiledEvent(RunnerEvent):
    """Added by the device, not the runner: its conditions changed during the run, so the run does not count."""

    event: Literal["spoiled"] = "spoiled"
    verdict: Verdict
    reason: str


_KINDS: dict[str, type[RunnerEvent]] = {
    kind.model_fields["event"].default: kind
    for kind in (LoadEvent, CheckEvent, MemoryEvent, RepetitionEvent, EndEvent, ErrorEvent, SpoiledEvent)
}
LAST: tuple[type[RunnerEvent], ...] = (EndEvent, ErrorEvent)


def parse_event(record: Mapping[str, Any]) -> RunnerEvent:
    """Raises RunnerCrashed when the record is not an event or a field does not match the protocol."""
    name = record.get("event") if isinstance(record, Mapping) else None
    try:
        return _KINDS.get(str(name), RunnerEvent).model_validate(dict(record))
    except (ValidationError, TypeError, ValueError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        place = ".".join(str(part) for part in first["loc"])
        raise RunnerCrashed("bad_event", f"the runner wrote a {name!r} event with {place}: {first['msg']}") from error


def parse_lines(lines: Iterable[str]) -> list[RunnerEvent]:
    """Events up to the first incomplete line: a killed runner may leave a truncated one at the end."""
    events = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            break
        events.append(parse_event(record))
    return events


def parse_run(out: str, err: str, exit_code: int) -> list[RunnerEvent]:
    """All events of a run that reported its end. Raises RunnerCrashed with the reason when it did not."""
    events = parse_lines(out.splitlines())
    if not events or not isinstance(events[-1], LAST):
        last = err.strip().splitlines()[-1] if err.strip() else "no message"
        how = f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
        raise RunnerCrashed("killed", f"the runner ended by {how} after {len(events)} events: {last}")
    return events


def records(events: Iterable[RunnerEvent]) -> list[dict[str, Any]]:
    return [event.record for event in events]


__all__ = [
    "LAST", "CheckEvent", "EndEvent", "ErrorEvent", "LoadEvent", "MemoryEvent", "RepetitionEvent", "RunnerEvent",
    "SpoiledEvent", "parse_event", "parse_lines", "parse_run", "records",
]  # fmt: skip
