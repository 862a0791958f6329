"""One device measured from this process, without a coordinator; ``hilnas.measurers`` offers it to what does not know
agents."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from device_agents.canary import CanaryBook
from device_agents.devices.base import Device
from device_agents.devices.host import HostDevice
from device_agents.session import measure
from nas.contracts.device import DeviceFacts
from nas.contracts.job import MeasureJob
from nas.contracts.measurement import Measurement

HOST = "host"


class Here:
    """``target`` is ``host`` or the address of a phone; ``home`` keeps the host's programs and canary times.

    Raises HilnasError with the doctor's sentence when the phone is gone or unfit.
    """

    def __init__(self, target: str, home: Path) -> None:
        self.device: Device = HostDevice(home / "blocks") if target == HOST else _phone(target)
        self._canaries = CanaryBook(home / f"canary-{target.replace(':', '_')}.json")

    @property
    def facts(self) -> DeviceFacts:
        return self.device.facts

    def measure(self, job: MeasureJob, programs: Mapping[str, Path]) -> Measurement:
        """``programs`` are the files of ``job.blocks`` by digest."""
        self.device.add_blocks(programs, keep=job.blocks)
        return measure(job, self.device, self._canaries)

    def __enter__(self) -> Here:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.device.close()


def _phone(address: str) -> Device:
    from device_agents.android.command import open_phone

    return open_phone(address)
