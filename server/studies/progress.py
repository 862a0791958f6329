"""The progress of each target of a study, and notes for the user when nothing moves."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from contracts.states import JobState, StudyState
from contracts.study import StudyRecord, Target
from nas.targets import matches
from server.context import Context
from server.devices import repository as devices
from server.devices.service import is_online
from server.jobs import repository as jobs
from server.studies.schemas import TargetView
from server.tables import DeviceRow
from server.trials import repository as trials


def target_views(session: Session, study: StudyRecord) -> list[TargetView]:
    measuring, counts = devices.measuring(session), jobs.count_by_target(session, study.id)
    measured = trials.count_measured(session, study.id)
    return [
        TargetView(
            name=target.name, wanted=target.description, devices=[row.name for row in _matching(target, measuring)],
            num_measured=measured.get(target.name, 0), num_queued=counts.get((target.name, JobState.QUEUED), 0),
            num_running=counts.get((target.name, JobState.LEASED), 0),
            num_failed=counts.get((target.name, JobState.FAILED), 0),
        )
        for target in study.spec.targets
    ]  # fmt: skip


def notes(session: Session, ctx: Context, study: StudyRecord) -> list[str]:
    """What the user should know when nothing moves."""
    if study.state != StudyState.RUNNING:
        return []
    measuring = devices.measuring(session)
    used = _used(study, measuring)
    absent = [_absent(target) for target in study.spec.targets if not _matching(target, measuring)]
    if not used and not absent and not any("measure" in row.serves for row in devices.all_devices(session)):
        return ["no enrolled device measures; run `hilnas agent host` on a machine that should"]
    gone = [_gone(session, row, used, ctx) for row in used if not is_online(ctx, row) and not row.quarantine]
    return [*absent, *(row.quarantine for row in used if row.quarantine), *gone]


def _matching(target: Target, rows: Sequence[DeviceRow]) -> list[DeviceRow]:
    return [row for row in rows if matches(target, row.id, devices.facts_of(row))]


def _used(study: StudyRecord, measuring: Sequence[DeviceRow]) -> list[DeviceRow]:
    """Undrained devices that may measure for the study, by name."""
    spec = study.spec
    if spec.targets:
        found = {row.id for target in spec.targets for row in _matching(target, measuring)}
        return [row for row in measuring if row.id in found]
    return [row for row in measuring if not spec.devices or row.id in spec.devices]


def _absent(target: Target) -> str:
    if target.kind in ("host", "replay"):
        return f"target {target.name} waits for {target.description}: run `hilnas agent {target.kind}` on that machine"
    if target.device:
        return f"target {target.name} waits for {target.description}: enrol it, or resume it if it was drained"
    what = f"a phone of model {target.model}" if target.model else target.description
    return f"target {target.name} waits for {what}: run `hilnas agent android` where it is plugged in"


def _gone(session: Session, row: DeviceRow, used: Sequence[DeviceRow], ctx: Context) -> str:
    waiting = jobs.count_queued(session, row.id, row.fingerprint)
    peers = [peer for peer in used if peer.fingerprint == row.fingerprint and peer.id != row.id]
    seen = f"device {row.name} was last seen at {row.last_seen:%H:%M:%S} UTC"
    if any(is_online(ctx, peer) and not peer.quarantine for peer in peers):
        return f"{seen}; its peers continue with the shared jobs"
    what = "1 job waits" if waiting == 1 else f"{waiting} jobs wait"
    return f"{seen} and {what} for it: start its agent again, or drain it to continue without it"
