"""A device made of recorded runs: the entire service can be tested without hardware and without waiting.

A trace file is JSON: {"facts": {...}, "runs": {"<chain key>": [[event, ...], ...]}, "default": [[...]]}. Runs of a
key are played in order, and the last one is repeated. An entry {"fail": "device_lost"} or {"fail": "killed"} plays a
fault.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from contracts.device import DeviceFacts
from contracts.plan import Plan
from contracts.runner_events import RunnerEvent, parse_event
from device_agents.devices.base import DeviceDefaults
from foundation.errors import DeviceLost, InvalidConfig, RunnerCrashed
from foundation.files import read_text


class ReplayDevice(DeviceDefaults):
    def __init__(self, trace: dict[str, Any]) -> None:
        self._facts = DeviceFacts(**trace["facts"])
        self._runs, self._default = trace.get("runs", {}), trace.get("default", [])
        self._played: dict[str, int] = {}
        self.blocks: set[str] = set()

    @classmethod
    def load(cls, path: Path) -> ReplayDevice:
        """Raises InvalidConfig for a file that cannot be read or is no trace."""
        try:
            return cls(json.loads(read_text(path)))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InvalidConfig(f"{path} is no trace of recorded runs: {type(error).__name__}: {error}"[:300]) from None

    @property
    def facts(self) -> DeviceFacts:
        return self._facts

    def has_block(self, digest: str) -> bool:
        return digest in self.blocks

    def add_blocks(self, files: Mapping[str, Path], keep: Collection[str] = ()) -> None:
        self.blocks |= set(files)

    def environment(self) -> dict[str, Any]:
        return {"replay": True}

    def run(self, plan: Plan, cancelled: Callable[[], bool]) -> list[RunnerEvent]:
        key = plan_key(plan)
        runs = self._runs.get(key) or self._default
        turn = self._played.get(key, 0)
        self._played[key] = turn + 1
        if not runs:
            raise DeviceLost(f"the trace has no run for chain {key}")
        entry = runs[min(turn, len(runs) - 1)]
        if isinstance(entry, dict) and entry.get("fail") == "device_lost":
            raise DeviceLost("the device went away (recorded)")
        if isinstance(entry, dict):
            raise RunnerCrashed("killed", "the runner was killed (recorded)")
        return [parse_event(event) for event in entry]


def plan_key(plan: Plan) -> str:
    """Names a plan by its steps, so that traces survive re-compiled blocks."""
    return ",".join(step.name for step in plan.chain)
