"""Devices with equal fingerprints (peers) check each other: each runs the same canary, and should take equal time.

A row whose canary disagrees is kept but does not count; a device that keeps disagreeing gets no shared work."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

import structlog
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from contracts.job import MeasureJob
from contracts.measurement import Measurement, Verdict
from contracts.study import StoredMeasurement
from server.context import Context
from server.devices import repository
from server.events.repository import emit
from server.hub import publish, queue_topic
from server.jobs import repository as jobs
from server.tables import CanaryRow, DeviceRow, JobRow

log = structlog.get_logger(__name__)
# One phone's own canary moves by a few percent between sessions and private farms report 6 % between runs: 10 % is more
# than two healthy phones of one model differ by, and would decide comparisons between candidates.
TOLERANCE = 0.10
EQUAL_DRIFT = 0.02  # drifts closer than this are within the noise: they do not show which of two peers is off
UNLIKE_ROWS = 2  # in a row, then quarantine
PROBE_AFTER = timedelta(minutes=10)  # long enough for a hot phone to cool; costs its peers one session in ten minutes


@dataclass(frozen=True)
class CanaryTime:
    """One device's canary: its time, and the device's own reference for it."""

    name: str
    median_ms: float
    reference_ms: float

    @property
    def moved(self) -> float:
        """How far it is from its own reference, as a share of it."""
        return abs(self.median_ms / self.reference_ms - 1)


class Agreement(Enum):
    ALONE = "alone"  # no peer to compare with
    AGREES = "agrees"
    PEER_IS_OFF = "peer_is_off"  # of two that differ, the other moved further from its own reference
    IS_OFF = "is_off"


def agreement(own: CanaryTime, peers: Sequence[CanaryTime]) -> Agreement:
    """With three and more the median decides. Two cannot outvote each other: the one further from its own reference is
    suspected, and the newcomer when both kept theirs."""
    if not peers:
        return Agreement.ALONE
    if len(peers) > 1:
        middle = statistics.median([own.median_ms, *(peer.median_ms for peer in peers)])
        return Agreement.AGREES if _is_near(own.median_ms, middle) else Agreement.IS_OFF
    if _is_near(own.median_ms, peers[0].median_ms):
        return Agreement.AGREES
    return Agreement.PEER_IS_OFF if peers[0].moved > own.moved + EQUAL_DRIFT else Agreement.IS_OFF


def _is_near(time_ms: float, other_ms: float) -> bool:
    return abs(time_ms / other_ms - 1) <= TOLERANCE


def difference(own: CanaryTime, peers: Sequence[CanaryTime]) -> str:
    """``18 % slower than galaxy-s24-a on the canary``."""
    usual = statistics.median(peer.median_ms for peer in peers)
    share = own.median_ms / usual - 1
    who = peers[0].name if len(peers) == 1 else f"the median of its {len(peers)} peers"
    return f"{abs(share):.0%} {'slower' if share > 0 else 'faster'} than {who} on the canary".replace("%", " %", 1)


def compare(session: Session, ctx: Context, device: DeviceRow, job: JobRow, row: Measurement) -> StoredMeasurement:
    """The row to store. Only valid rows are compared: the others do not count anyway, and what spoiled them also
    spoiled their canary."""
    stored = StoredMeasurement.model_validate({**row.model_dump(), "target": job.target})
    key, median_ms = _canary_key(job), row.canary.get("median_ms")
    if not key or not median_ms:
        return stored
    known = _known(session, ctx, device, key, row.canary.get("reference_ms") or median_ms)
    if row.verdict is not Verdict.VALID:
        return stored
    known.measured_at = ctx.now()
    own = CanaryTime(device.name, median_ms, known.reference_ms)
    peers = _latest_of_peers(session, device, key)
    verdict = agreement(own, peers)
    if verdict is Agreement.IS_OFF:
        sentence = difference(own, peers)
        known.unlike_rows += 1
        if known.unlike_rows >= UNLIKE_ROWS and not device.quarantine:
            _quarantine(session, ctx, device, job, sentence)
        if job.pool is None:  # the user asked for this particular device: slow or not, that is its speed
            return stored
        reason = f"{device.name} is {sentence}"
        change = {"verdict": Verdict.UNLIKE_TWIN, "agent_verdict": row.verdict, "reason": reason}
        return stored.model_copy(update=change)
    known.median_ms = median_ms
    if verdict is Agreement.AGREES:
        known.unlike_rows = 0
        if device.quarantine and not _is_doubted(session, device):
            readmit(session, device)
    return stored


def _known(session: Session, ctx: Context, device: DeviceRow, key: str, reference_ms: float) -> CanaryRow:
    """The device's row for this canary with its present reference: the agent replaces a first reference that was taken
    on a busy machine, which then shows that the time compared with it had moved."""
    known = session.get(CanaryRow, (device.id, key))
    if known is None:
        known = CanaryRow(device_id=device.id, key=key, unlike_rows=0, measured_at=ctx.now())
        session.add(known)
    known.reference_ms = reference_ms
    return known


def _is_doubted(session: Session, device: DeviceRow) -> bool:
    """True while one of its canaries (other threads, another width) is still contradicted."""
    session.flush()
    query = select(CanaryRow.key).where(CanaryRow.device_id == device.id, CanaryRow.unlike_rows >= UNLIKE_ROWS)
    return session.scalars(query.limit(1)).first() is not None


def shares_work(session: Session, ctx: Context, device: DeviceRow) -> bool:
    """In quarantine a device gets a shared job now and then: its canary can agree again only by running."""
    if not device.quarantine:
        return True
    query = select(func.max(CanaryRow.measured_at)).where(
        CanaryRow.device_id == device.id, CanaryRow.unlike_rows >= UNLIKE_ROWS
    )
    last = session.scalar(query)
    return last is not None and ctx.now() - last >= PROBE_AFTER


def _canary_key(job: JobRow) -> str:
    payload = jobs.job_of(job)
    return payload.plan.canary_key if isinstance(payload, MeasureJob) else ""


def _latest_of_peers(session: Session, device: DeviceRow, key: str) -> list[CanaryTime]:
    """The last time of each healthy peer for the same canary; drained ones are left out, they may be faulty."""
    query = (
        select(DeviceRow.name, CanaryRow.median_ms, CanaryRow.reference_ms)
        .join(CanaryRow, CanaryRow.device_id == DeviceRow.id)
        .where(*repository.peers_of(device), repository.takes_shared_work(), CanaryRow.key == key)
        .order_by(DeviceRow.name)
    )
    found = session.execute(query)
    return [CanaryTime(name, median_ms, reference_ms) for name, median_ms, reference_ms in found if median_ms]


def _quarantine(session: Session, ctx: Context, device: DeviceRow, job: JobRow, sentence: str) -> None:
    device.quarantine = (
        f"{device.name} is {sentence}; it gets no shared work until its canary agrees again or you resume it"
    )
    session.flush()
    if repository.other_peer(session, device.fingerprint, device.id):
        jobs.release(session, device.id)
        publish(session, queue_topic(device.fingerprint))
    emit(session, ctx.now(), job.study_id, "device_quarantined", device_id=device.id, reason=device.quarantine)


def readmit(session: Session, device: DeviceRow) -> None:
    """Its canary agrees, or its owner resumed it: earlier disagreements are cleared."""
    if device.quarantine:
        log.info("device_readmitted", device_id=device.id)
        publish(session, queue_topic(device.fingerprint))
    device.quarantine = ""
    session.execute(update(CanaryRow).where(CanaryRow.device_id == device.id).values(unlike_rows=0))
