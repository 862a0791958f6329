"""What a device is to the measurement session: facts, an environment reading, and running one plan in one fresh
process."""

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
        """Makes verified files (digest -> path) available to later plans; ``keep`` must stay if room is made."""
        ...

    def environment(self) -> dict[str, Any]:
        """Load, clocks, temperatures: whatever can be read now; what cannot is absent."""
        ...

    def run(self, plan: Plan, cancelled: Callable[[], bool]) -> list[RunnerEvent]:
        """Every event of one cold run, the runner's own error included. A SpoiledEvent says that the device itself made
        the run worthless.

        Raises RunnerCrashed when the runner ended without words, DeviceLost when the device went away.
        """
        ...

    def begin(self, session: str) -> None:
        """The runs that follow belong to ``session`` (a job id); a device that kept some of them gives them back."""
        ...

    def ready(self) -> str:
        """Empty when the device can take a job, else a sentence."""
        ...

    def rest(self) -> None:
        """There is no work: stop holding the device in its measuring state."""
        ...

    def close(self) -> None:
        """Leaves the device as it was found."""
        ...


class DeviceDefaults:
    """What a device without conditions of its own answers."""

    while_cooling: Callable[[], bool] = staticmethod(lambda: False)  # does a piece of other work; False: there is none

    def begin(self, session: str) -> None:
        """Nothing is kept between runs."""

    def ready(self) -> str:
        return ""

    def rest(self) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """Nothing was changed."""
