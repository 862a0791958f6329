"""What a device is to the measurement session: facts, an environment reading, and running one plan in one fresh
process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from nas.contracts.device import DeviceFacts
from nas.contracts.plan import Plan

Event = dict[str, Any]


class Device(Protocol):
    @property
    def facts(self) -> DeviceFacts: ...

    def has_block(self, digest: str) -> bool: ...

    def add_block(self, digest: str, path: Path) -> None:
        """Makes a verified file available to later plans."""
        ...

    def environment(self) -> dict[str, Any]:
        """Load, clocks, temperatures: whatever can be read now; what cannot is absent."""
        ...

    def run(self, plan: Plan, cancelled: Callable[[], bool]) -> list[Event]:
        """Every event line of one cold run, the runner's own error line included.

        Raises RunnerCrashed when the runner ended without words, DeviceLost when the device went away.
        """
        ...
