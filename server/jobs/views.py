"""Job rows as the API shows them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from server.jobs.schemas import JobView
from server.tables import DeviceRow, JobRow, TrialRow

SAME = tuple(name for name in JobView.model_fields if name not in ("device_id", "device_name", "trial_number"))


def job_view(session: Session, row: JobRow) -> JobView:
    return job_views(session, [row])[0]


def job_views(session: Session, rows: Sequence[JobRow]) -> list[JobView]:
    """``device_id`` is the device that the job waits for, or the one of a pool that took it; while no device of a pool
    has taken it, ``device_name`` lists them all."""
    rows_of_devices = session.execute(select(DeviceRow.id, DeviceRow.name, DeviceRow.fingerprint)).all()
    names = {device_id: name for device_id, name, _ in rows_of_devices}
    for _, name, pool in sorted(rows_of_devices, key=lambda row: row[1]):
        names[pool] = f"{names[pool]} or {name}" if pool in names else name
    trial_ids = {row.trial_id for row in rows}
    numbers = dict(session.execute(select(TrialRow.id, TrialRow.number).where(TrialRow.id.in_(trial_ids))).all())
    return [_view(row, numbers.get(row.trial_id), names) for row in rows]


def _view(row: JobRow, number: int | None, names: dict[str, str]) -> JobView:
    device_id = row.device_id or row.leased_by
    return JobView(
        device_id=device_id, device_name=names.get(device_id or row.pool or ""), trial_number=number,
        **{name: getattr(row, name) for name in SAME},
    )  # fmt: skip
