"""Trials, their measurements and trainings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import distinct, func, select
from sqlalchemy.orm import Session

from contracts.job import TrainResult
from contracts.measurement import Verdict
from contracts.study import StoredMeasurement, TrialFacts, TrialRecord
from contracts.values import clean_json
from nas.targets import DeviceGroup
from search_space.arch import ArchConfig
from server.context import new_id
from server.errors import NotFound
from server.readable import readable, unreadable
from server.tables import DeviceRow, JobRow, MeasurementEventsRow, MeasurementRow, TrainingResultRow, TrialRow
from server.trials.schemas import TrialView

Trial = TypeVar("Trial", bound=TrialFacts)
WITHOUT_EVENTS = {"events"}
WHOSE = {"device_id", "fingerprint", "target", "measured_at"}  # columns of the row, not parts of its body
DECISIVE = frozenset({"metrics", "beside", "verdict", "plan_digest", "everything"})
STORED = ("sampler_attrs", "reason", "costs", "blocks", "values", "artifacts", "quality",
          "final_quality", "program_quality", "created_at", "updated_at")  # fmt: skip
FORMS = {"measurements": "composed", "confirmed": "one_piece", "trained": "trained"}
NO_FILE = "0" * 64
LEAN: dict[str, Any] = {"environment": {}, "block_ms": {}}


def get_or_raise(session: Session, trial_id: str) -> TrialRow:
    row = session.get(TrialRow, trial_id)
    if row is None:
        raise NotFound(f"there is no trial {trial_id!r}; GET /api/v1/studies/<id>/trials lists them")
    return row


def arch_of(row: TrialRow) -> ArchConfig:
    return ArchConfig.from_dict(row.arch)


def next_number(session: Session, study_id: str) -> int:
    last = session.scalar(select(func.max(TrialRow.number)).where(TrialRow.study_id == study_id))
    return 0 if last is None else last + 1


def rows_of(
    session: Session, study_id: str, since: datetime | None = None, states: Collection[str] | None = None,
    ids: Collection[str] | None = None,
) -> list[TrialRow]:  # fmt: skip
    """By number. The database does not sort: for that it would walk all trials instead of the few in these states."""
    query = select(TrialRow).where(TrialRow.study_id == study_id)
    if since is not None:
        query = query.where(TrialRow.updated_at >= since)
    if states is not None:
        query = query.where(TrialRow.state.in_(states))
    if ids is not None:
        query = query.where(TrialRow.id.in_(ids))
    return sorted(session.scalars(query), key=lambda row: row.number)


def find_by_arch(session: Session, study_id: str, arch_digest: str) -> TrialRow | None:
    query = select(TrialRow).where(TrialRow.study_id == study_id, TrialRow.arch_digest == arch_digest)
    return session.scalars(query.limit(1)).first()


def count_by_state(session: Session, study_id: str) -> dict[str, int]:
    query = select(TrialRow.state, func.count()).where(TrialRow.study_id == study_id).group_by(TrialRow.state)
    return dict(session.execute(query).all())


def records(session: Session, rows: Sequence[TrialRow]) -> list[TrialRecord]:
    """Trials with their measurements, without raw events. Raises InvalidConfig for an architecture that cannot be read,
    e.g. because a plugin is not loaded."""
    return _read_all(TrialRecord, session, rows)


def views(session: Session, rows: Sequence[TrialRow], *, lean: bool = False) -> list[TrialView]:
    """The same for display, with any architecture (``lean``: without environment and block times)."""
    return _read_all(TrialView, session, rows, lean)


def _read_all(cls: type[Trial], session: Session, rows: Sequence[TrialRow], lean: bool = False) -> list[Trial]:
    by_trial: defaultdict[str, list[MeasurementRow]] = defaultdict(list)
    for row in _measurements(session, [row.id for row in rows]):
        by_trial[row.trial_id].append(row)
    return [_read(cls, row, by_trial[row.id], lean) for row in rows]


def _measurements(session: Session, trial_ids: Sequence[str]) -> Iterable[MeasurementRow]:
    for start in range(0, len(trial_ids), 500):  # SQLite takes a limited number of parameters
        chunk = trial_ids[start : start + 500]
        query = select(MeasurementRow).where(MeasurementRow.trial_id.in_(chunk))
        yield from session.scalars(query.order_by(MeasurementRow.created_at, MeasurementRow.id))


def _read(cls: type[Trial], row: TrialRow, measurements: Sequence[MeasurementRow], lean: bool) -> Trial:
    known = {"id": row.id, "study_id": row.study_id, "number": row.number, "state": row.state, "arch": row.arch,
             "arch_digest": row.arch_digest, "assignment": {}}  # fmt: skip
    stored = {name: getattr(row, name) for name in STORED} | known | {"assignment": row.assignment}
    found, left_out = readable(cls, stored, known)
    rows = {role: _preferred(measurements, form, lean) for role, form in FORMS.items()}
    noted = {"reason": f"{row.reason} {unreadable(left_out)}".strip()} if left_out else {}
    return found.model_copy(update=rows | noted)


def _preferred(rows: Sequence[MeasurementRow], form: str, lean: bool) -> dict[str, StoredMeasurement]:
    """Per device and target the latest valid row, else the latest. ``rows`` are in time order."""
    chosen: dict[tuple[str, str], MeasurementRow] = {}
    for row in rows:
        if row.form != form:
            continue
        before = chosen.get((row.target, row.device_id))
        if before is None or row.verdict == Verdict.VALID or before.verdict != Verdict.VALID:
            chosen[row.target, row.device_id] = row
    found = [measurement_of(row, lean) for row in chosen.values()]
    return {measurement.key: measurement for measurement in found}


def measurement_of(row: MeasurementRow, lean: bool = False) -> StoredMeasurement:
    whose = {"device_id": row.device_id, "fingerprint": row.fingerprint, "target": row.target,
             "measured_at": row.created_at}  # fmt: skip
    filler = {"plan_digest": row.plan_digest, "protocol": "", "verdict": Verdict.RUNNER_FAILED}
    found, left_out = readable(StoredMeasurement, {**row.body, **(LEAN if lean else {}), **whose}, filler | whose)
    if not left_out:
        return found
    changes: dict[str, Any] = {"reason": f"{found.reason} {unreadable(left_out)}".strip()}
    if any(name.partition(".")[0] in DECISIVE for name in left_out) and found.verdict is Verdict.VALID:
        changes |= {"verdict": Verdict.RUNNER_FAILED, "agent_verdict": found.verdict}  # half a row decides nothing
    return found.model_copy(update=changes)


def add_measurement(session: Session, now: datetime, job: JobRow, measurement: StoredMeasurement) -> MeasurementRow:
    """Adds the row of a finished job; ``job_id`` is unique. Its key is the plan of the job, not of the result."""
    device = session.get_one(DeviceRow, job.leased_by)
    row = _row(job.trial_id, device, job.plan_digest, job.form, measurement, now)
    row.target = job.target
    row.job_id = job.id
    session.add(row)
    session.flush()
    if measurement.events:
        session.add(MeasurementEventsRow(measurement_id=row.id, events=measurement.events))
    if measurement.canary:
        device.canary, device.canary_at = measurement.canary, now
    touch(session, job.trial_id, now)
    return row


def attach_measurement(
    session: Session, now: datetime, trial_id: str, group: DeviceGroup, measurement: StoredMeasurement
) -> None:
    """Gives the trial a copy of a row that was measured for another trial; repeating this changes nothing."""
    device = session.get_one(DeviceRow, group.device_id or measurement.device_id)
    query = select(MeasurementRow.id).where(
        MeasurementRow.trial_id == trial_id,
        MeasurementRow.device_id == device.id,
        MeasurementRow.target == group.target,
        MeasurementRow.verdict == Verdict.VALID,
        MeasurementRow.plan_digest == measurement.plan_digest,
    )
    if session.scalars(query.limit(1)).first() is not None:
        return
    row = _row(trial_id, device, measurement.plan_digest, "composed", measurement, now)
    row.target = group.target
    source = find_valid(session, measurement.plan_digest, device.fingerprint)
    row.source_id = source.id if source else None
    session.add(row)
    touch(session, trial_id, now)


def _row(
    trial_id: str, device: DeviceRow, plan_digest: str, form: str, measurement: StoredMeasurement, now: datetime
) -> MeasurementRow:
    body = measurement.model_dump(mode="json", exclude=WITHOUT_EVENTS | WHOSE, exclude_none=True)
    return MeasurementRow(
        id=new_id("measurement"), trial_id=trial_id, device_id=device.id, fingerprint=device.fingerprint,
        plan_digest=plan_digest, form=form, verdict=measurement.verdict,
        body=body | {"plan_digest": plan_digest}, created_at=now,
    )  # fmt: skip


def find_valid(session: Session, plan_digest: str, fingerprint: str) -> MeasurementRow | None:
    """The first valid measured row of this plan on a device with this fingerprint that is not in quarantine."""
    doubted = select(DeviceRow.id).where(DeviceRow.fingerprint == fingerprint, DeviceRow.quarantine != "")
    query = select(MeasurementRow).where(
        MeasurementRow.device_id.not_in(doubted),
        MeasurementRow.plan_digest == plan_digest,
        MeasurementRow.fingerprint == fingerprint,
        MeasurementRow.verdict == Verdict.VALID,
        MeasurementRow.job_id.is_not(None),
    )
    return session.scalars(query.order_by(MeasurementRow.created_at).limit(1)).first()


def count_measured(session: Session, study_id: str) -> dict[str, int]:
    """Target -> number of trials with a valid composed row for it."""
    query = (
        select(MeasurementRow.target, func.count(distinct(MeasurementRow.trial_id)))
        .join(TrialRow, TrialRow.id == MeasurementRow.trial_id)
        .where(TrialRow.study_id == study_id, MeasurementRow.form == "composed")
        .where(MeasurementRow.verdict == Verdict.VALID)
        .group_by(MeasurementRow.target)
    )
    return dict(session.execute(query).all())


def measurements_with_events(session: Session, trial_id: str) -> list[tuple[MeasurementRow, StoredMeasurement]]:
    """Every row of a trial in time order, raw events included (those of the source for a reused row)."""
    rows = list(_measurements(session, [trial_id]))
    keys = [row.source_id or row.id for row in rows]
    query = select(MeasurementEventsRow).where(MeasurementEventsRow.measurement_id.in_(keys))
    events = {found.measurement_id: found.events for found in session.scalars(query)}
    return [
        (row, measurement_of(row).model_copy(update={"events": _lines(events.get(key, []))}))
        for row, key in zip(rows, keys, strict=True)
    ]


def _lines(events: list[Any]) -> list[list[dict[str, Any]]]:
    """Keeps only lists of events."""
    runs = [run for run in clean_json(events) if isinstance(run, list)]
    return [[event for event in run if isinstance(event, dict)] for run in runs]


def add_training(session: Session, now: datetime, job: JobRow, training: TrainResult) -> None:
    """Stores a trainer's result; checkpoint and program become artifacts of the trial."""
    body = training.model_dump(mode="json")
    session.add(
        TrainingResultRow(id=new_id("training"), job_id=job.id, trial_id=job.trial_id, body=body, created_at=now)
    )
    trial = session.get_one(TrialRow, job.trial_id)
    trial.artifacts = {**trial.artifacts, "checkpoint": training.checkpoint, "trained": training.program}
    touch(session, job.trial_id, now)


def trainings(session: Session, trial_id: str) -> list[TrainingResultRow]:
    query = select(TrainingResultRow).where(TrainingResultRow.trial_id == trial_id)
    return list(session.scalars(query.order_by(TrainingResultRow.created_at)))


def training_of(row: TrainingResultRow) -> TrainResult:
    """A trainer's result; fields of an older version that cannot be read are left out and named in ``recipe``."""
    filler = {"recipe": "", "steps": 0, "tokens": 0, "seconds": 0, "losses": [], "held_out_bits_per_byte": {},
              "checkpoint": NO_FILE, "program": NO_FILE, "program_bytes": 0}  # fmt: skip
    found, left_out = readable(TrainResult, row.body, filler)
    return found.model_copy(update={"recipe": f"{found.recipe} {unreadable(left_out)}".strip()}) if left_out else found


def touch(session: Session, trial_id: str, now: datetime) -> None:
    """Marks the trial as changed, so that requests for changes since a moment include it."""
    session.get_one(TrialRow, trial_id).updated_at = now
