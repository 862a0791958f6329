"""From an architecture to what devices of a study measure: its blocks, its plans, its jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from contracts.job import MeasureJob
from contracts.measurement import Verdict
from contracts.plan import PRECISION, PROTOCOLS, Plan
from contracts.study import StoredMeasurement, StudySpec
from nas.export.blocks import BlockSpec
from nas.export.compose import build_plan, chain_of
from nas.store import StudyStore
from nas.targets import DeviceGroup, groups_of, on_cores, on_target
from nas.workspace import Workspace
from search_space.arch import ArchConfig


class Plans:
    def __init__(self, spec: StudySpec, store: StudyStore, workspace: Workspace) -> None:
        self.spec, self.store, self.workspace = spec, store, workspace

    def blocks_of(self, arch: ArchConfig) -> list[BlockSpec]:
        """All blocks that measurements of ``arch`` need, for every backend of the study."""
        quantization = self.spec.quantization
        return [spec for backend in self.spec.backends for spec in self.workspace.specs_of(arch, quantization, backend)]

    def plans_of(self, arch: ArchConfig, groups: Iterable[DeviceGroup]) -> dict[str, Plan]:
        """A plan for every backend of these groups, with its blocks published to agents."""
        backends = dict.fromkeys(self.spec.backend_of(group.target) for group in groups)
        plans = {backend: self.plan_of(arch, backend) for backend in backends}
        for plan in plans.values():
            self.publish(plan)
        return plans

    def plan_of(self, arch: ArchConfig, backend: str) -> Plan:
        library, spec = self.workspace.library, self.spec
        return build_plan(
            arch, chain_of(arch, spec.quantization, library, backend), PROTOCOLS[spec.protocol](spec.threads),
            cache_dtype=spec.cache_dtype, backend=backend,
            check=self.workspace.check(arch, spec.quantization, spec.cache_dtype, backend),
            canary=self.workspace.canary(arch.d_model, spec.quantization, backend),
        )  # fmt: skip

    def job_of(self, plan: Plan, **options: Any) -> MeasureJob:
        half_width, repeats = PRECISION[self.spec.protocol]
        half_width = self.spec.precision or half_width
        return MeasureJob(plan=plan, max_half_width=half_width, max_repeats=repeats, **options)

    def publish(self, plan: Plan) -> None:
        """Makes every block of a plan available to agents."""
        for digest in plan.blocks:
            self.store.put_artifact(self.workspace.library.path(digest), "application/x-executorch")

    def plan_on(self, plans: Mapping[str, Plan], group: DeviceGroup) -> Plan:
        """The plan of the group's backend, with threads and cores from its target, else from its device."""
        plan = plans[self.spec.backend_of(group.target)]
        facts = [facts for facts in self.store.devices().values() if facts.fingerprint == group.fingerprint]
        return on_cores(on_target(plan, self.spec, group.target), facts)

    def groups(self) -> list[DeviceGroup]:
        return groups_of(self.spec, self.store.devices())

def suspect_of(row: StoredMeasurement | None) -> str:
    """The device to avoid next time: its canary disagrees with those of its peers."""
    return row.device_id if row is not None and row.verdict is Verdict.UNLIKE_TWIN else ""
