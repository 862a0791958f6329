"""Measuring without a coordinator: block library, eager reference and one device in one object.

Torch and the exporter are imported only when needed; measuring existing programs does not need them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from contracts.device import DeviceFacts
from contracts.job import MeasureJob
from contracts.measurement import Measurement
from contracts.plan import DEFAULT_BACKEND, CacheDtype, Check, Plan, Protocol
from device_agents.canary import CanaryBook
from device_agents.devices.base import Device
from device_agents.devices.host import HostDevice
from device_agents.session import measure
from search_space.arch import ArchConfig

if TYPE_CHECKING:
    from nas.export.library import BlockLibrary, Told
    from nas.export.reference import EagerChain

HOST = "host"
LIBRARY = Path("var/library")


class LocalMeasurer:
    """``target`` is ``host`` or the address of a phone; ``library_dir`` keeps programs and canary times. Another
    ``device`` may be given instead of a target.

    Raises HilnasError with the doctor's findings if the phone is gone or unfit.
    """

    def __init__(
        self,
        target: str = HOST,
        library_dir: Path = LIBRARY,
        *,
        device: Device | None = None,
        quantization: str = "8da4w",
        cache_dtype: CacheDtype = "fp32",
        backend: str = DEFAULT_BACKEND,
    ) -> None:
        self.library_dir, self.quantization, self.cache_dtype = library_dir, quantization, cache_dtype
        self.backend = backend
        self.device = device or _device(target, library_dir)
        self.canaries = CanaryBook(library_dir / f"canary-{target.replace(':', '_')}.json")

    @property
    def facts(self) -> DeviceFacts:
        return self.device.facts

    @cached_property
    def library(self) -> BlockLibrary:
        from nas.export.library import BlockLibrary

        return BlockLibrary(self.library_dir)

    @cached_property
    def eager(self) -> EagerChain:
        from nas.export.reference import EagerChain

        return EagerChain()

    # --- from architectures to plans --------------------------------------------------------------------------------

    def compile(self, archs: Sequence[ArchConfig], told: Told | None = None) -> int:
        """Compiles every missing block of ``archs`` (canaries included) in parallel; returns their number. ``told`` is
        that of ``BlockLibrary.ensure``."""
        from nas.export.compose import measured_blocks

        specs = [spec for arch in archs for spec in measured_blocks(arch, self.quantization, self.backend)]
        num_started = len(self.library.start(specs))
        self.library.ensure(specs, told)
        return num_started

    def plan(self, arch: ArchConfig, protocol: Protocol, check: bool = True, canary: bool = True) -> Plan:
        """The composed plan of a candidate; compiles missing blocks."""
        from nas.export.compose import build_plan, canary_of, candidate_check, chain_of

        form, cache_dtype = self.quantization, self.cache_dtype
        return build_plan(
            arch, chain_of(arch, form, self.library, self.backend), protocol, cache_dtype=cache_dtype,
            check=candidate_check(arch, form, cache_dtype, self.eager, self.backend) if check else None,
            canary=canary_of(arch.d_model, form, self.library, self.backend) if canary else None,
            backend=self.backend,
        )  # fmt: skip

    def one_piece_plan(self, arch: ArchConfig, protocol: Protocol, exported: dict[str, Any]) -> Plan:
        """The same candidate as the one program that ``export`` made."""
        from nas.export.one_piece import one_piece_chain

        composed = self.plan(arch, protocol, check=False)
        chain = one_piece_chain(arch, exported["digest"])
        return composed.model_copy(update={"chain": chain, "check": Check(**exported["check"])})

    def export(self, arch: ArchConfig, distinct: bool = True, reuse: bool = True) -> dict[str, Any]:
        """The candidate as one program; ``reuse`` returns an earlier export of the same candidate."""
        from nas.export.one_piece import export_candidate

        fields = arch.to_dict()
        return export_candidate(str(self.library_dir), fields, self.quantization, distinct, reuse, self.backend)

    # --- from plans to rows -----------------------------------------------------------------------------------------

    def measure_plan(self, plan: Plan, **options: Any) -> Measurement:
        """Measures one plan of this library; ``options`` are those of MeasureJob."""
        job = MeasureJob(plan=plan, **options)
        return self.measure(job, {digest: self.library.path(digest) for digest in job.blocks})

    def measure(self, job: MeasureJob, programs: Mapping[str, Path]) -> Measurement:
        """Measures a job; ``programs`` are the files of ``job.blocks`` by digest."""
        self.device.add_blocks(programs, keep=job.blocks)
        return measure(job, self.device, self.canaries)

    def close(self) -> None:
        """Restores the device's original state and ends the compile workers."""
        self.device.close()
        if "library" in self.__dict__:
            self.library.close()

    def __enter__(self) -> LocalMeasurer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _device(target: str, library_dir: Path) -> Device:
    if target == HOST:
        return HostDevice(library_dir / "blocks")
    from device_agents.devices.android.command import open_phone

    return open_phone(target)
