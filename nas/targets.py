"""Which devices a study measures on: its targets, and the groups of peers that share a target's work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from contracts.device import DeviceFacts
from contracts.job import JobRecord
from contracts.measurement import Verdict
from contracts.plan import Plan
from contracts.study import StoredMeasurement, StudySpec, Target
from nas.export.backends import BACKENDS

MAX_CORES = 1024


@dataclass(frozen=True)
class DeviceGroup:
    """Devices whose rows are interchangeable: all with ``fingerprint``, or only ``device_id`` if that is set."""

    target: str
    fingerprint: str
    device_id: str | None = None

    def owns(self, row: StoredMeasurement) -> bool:
        mine = row.device_id == self.device_id if self.device_id else row.fingerprint == self.fingerprint
        return mine and row.target == self.target

    def row(self, rows: Mapping[str, StoredMeasurement]) -> StoredMeasurement | None:
        """The group's latest valid row, else its latest row."""
        own = [row for row in rows.values() if self.owns(row)]
        valid = [row for row in own if row.verdict is Verdict.VALID]
        return max(valid or own, key=lambda row: row.measured_at.timestamp() if row.measured_at else 0.0, default=None)

    def queued_as(self, job: JobRecord) -> bool:
        """True for a job that was submitted for this group."""
        mine = job.device_id == self.device_id if self.device_id else job.pool == self.fingerprint
        return mine and job.target == self.target


def matches(target: Target, device_id: str, facts: DeviceFacts) -> bool:
    if target.device:
        return target.device in (device_id, facts.name)
    return facts.model == target.model if target.model else facts.kind == target.kind


def groups_of(spec: StudySpec, devices: Mapping[str, DeviceFacts], backend: str | None = None) -> list[DeviceGroup]:
    """The groups that a candidate must be measured on, among ``devices`` that can run its programs; a target without
    matching devices has none. ``backend`` overrides the study's: what the programs were compiled for."""
    able = {key: facts for key, facts in devices.items() if _runs(backend or spec.backend, facts)}
    if spec.devices:
        return [DeviceGroup("", able[one].fingerprint, one) for one in spec.devices if one in able]
    if not spec.targets:
        return _by_fingerprint("", able.values())
    return [group for target in spec.targets for group in _groups_of_target(spec, target, devices, backend)]


def _groups_of_target(
    spec: StudySpec, target: Target, devices: Mapping[str, DeviceFacts], backend: str | None
) -> list[DeviceGroup]:
    compiled_for = backend or spec.backend_of(target.name)
    able = {key: facts for key, facts in devices.items() if _runs(compiled_for, facts)}
    found = {key: facts for key, facts in able.items() if matches(target, key, facts)}
    if target.device:
        return [DeviceGroup(target.name, facts.fingerprint, device_id) for device_id, facts in found.items()]
    return _by_fingerprint(target.name, found.values())


def _runs(backend: str, facts: DeviceFacts) -> bool:
    return BACKENDS.get_or_raise(backend).runs_on(facts)


def _by_fingerprint(target: str, devices: Iterable[DeviceFacts]) -> list[DeviceGroup]:
    return [DeviceGroup(target, fingerprint) for fingerprint in dict.fromkeys(facts.fingerprint for facts in devices)]


def unserved(spec: StudySpec, groups: Iterable[DeviceGroup]) -> list[Target]:
    """Targets that no device serves now."""
    served = {group.target for group in groups}
    return [target for target in spec.targets if target.name not in served]


def on_target(plan: Plan, spec: StudySpec, name: str) -> Plan:
    """``plan`` with the target's threads and cores, which are part of the measurement key."""
    if not name:
        return plan
    target = spec.target(name)
    changes = {"threads": target.threads, "affinity": target.affinity}
    given = {key: value for key, value in changes.items() if value is not None}
    return plan.model_copy(update={"protocol": plan.protocol.model_copy(update=given)}) if given else plan


def on_cores(plan: Plan, facts: Iterable[DeviceFacts]) -> Plan:
    """``plan`` on the cores that the device itself picks for that many threads (phones do), unless the plan sets
    them."""
    picked = next((cores for one in facts if (cores := cores_for(one, plan.protocol.threads))), None)
    if plan.protocol.affinity is not None or picked is None:
        return plan
    return plan.model_copy(update={"protocol": plan.protocol.model_copy(update={"affinity": picked})})


def cores_for(facts: DeviceFacts, threads: int) -> list[int]:
    """Cores that an agent reports for that many threads; empty if it did not report a valid list."""
    affinity = facts.details.get("affinity")
    cores = affinity.get(str(threads)) if isinstance(affinity, dict) else None
    sound = isinstance(cores, list) and all(type(core) is int and 0 <= core < MAX_CORES for core in cores)
    return cores if sound and cores and len(cores) <= MAX_CORES else []
