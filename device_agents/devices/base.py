"""The interface of a device for the measurement session: facts, an environment reading, and running one plan in a
fresh process."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

from contracts.device import DeviceFacts
from contracts.plan import Plan
from contracts.runner_events import RunnerEvent


class Device(Protocol):
    while_cooling: Callable[[], bool]

    @property
    def facts(self) -> DeviceFacts: ...

    def has_block(self, digest: str) -> bool: ...

    def add_blocks(self, files: Mapping[str, Path], keep: Collection[str] = ()) -> None:
        """Makes verified files (digest -> path) available to later plans; blocks in ``keep`` must not be evicted."""
        ...

    def environment(self) -> dict[str, Any]:
        """Load, clocks, temperatures: whatever can be read now; other values are absent."""
        ...

    def run(self, plan: Plan, cancelled: Callable[[], bool]) -> list[RunnerEvent]:
        """Every event of one cold run, including an error reported by the runner. A SpoiledEvent means that the device
        itself invalidated the run.

        Raises RunnerCrashed when the runner ended without an end or error event, DeviceLost when the device is gone.
        """
        ...

    def begin(self, session: str) -> None:
        """The next runs belong to ``session`` (a job id); a device that kept results of some of them returns those."""
        ...

    def ready(self) -> str:
        """Empty when the device can take a job, else the reason why not."""
        ...

    def rest(self) -> None:
        """Called when there is no work: release the device from its measuring state."""
        ...

    def close(self) -> None:
        """Restores the device's original state."""
        ...


class DeviceDefaults:
    """Defaults for a device without conditions of its own."""

    while_cooling: Callable[[], bool] = staticmethod(lambda: False)  # does some other work; False: there is none

    def begin(self, session: str) -> None:
        """Nothing is kept between runs."""

    def ready(self) -> str:
        return ""

    def rest(self) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """Nothing was changed."""
