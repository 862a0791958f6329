"""A kind of device of your own: this machine, its runner held on one core from the outside by taskset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from contracts.device import DeviceFacts
from contracts.plan import Plan
from contracts.runner_events import RunnerEvent
from device_agents.devices.host import HostDevice, run_process
from device_agents.devices.kinds import DEVICE_KINDS
from foundation.measurement_lock import MeasurementLock


class PinnedHost(HostDevice):
    """A fingerprint of its own: rows of one core are never compared with those of all cores."""

    def __init__(self, blocks_dir: Path, core: int) -> None:
        super().__init__(blocks_dir)
        self.core = core

    @property
    def facts(self) -> DeviceFacts:
        one_core = {"kind": "pinned_host", "name": f"core-{self.core}", "cores": 1}
        return super().facts.model_copy(update=one_core)

    def run(self, plan: Plan, cancelled: Callable[[], bool]) -> list[RunnerEvent]:
        protocol = plan.protocol.model_copy(update={"threads": 1, "affinity": [self.core]})
        single = plan.model_copy(update={"protocol": protocol}).to_runner(str(self.blocks_dir))
        with MeasurementLock().exclusive():
            return run_process(["taskset", "-c", str(self.core), str(self.runner), "-"], single, cancelled)


@DEVICE_KINDS.register("pinned_host")
def pinned_host(home: Path, address: str) -> PinnedHost:
    """One core of this machine; the address is its number."""
    return PinnedHost(home / "blocks", int(address or 0))
