"""The queue. A lease is one conditional UPDATE with a fencing token; every later change names that token.

queued --lease--> leased --result--> done | failed
  ^                 |
  +--- expired -----+  (attempts + 1; after the last attempt: failed)
queued --stop--> cancelled      queued --drain--> failed, or back to the peers for a job of a pool
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, update
from sqlalchemy.orm import Session, aliased, undefer

from contracts.job import JobRecord, MeasureJob, TrainJob
from contracts.states import JobState
from server.tables import JobRow, LateResultRow

MAX_LATE_RESULTS = 32  # kept of one job
OPEN = (JobState.QUEUED, JobState.LEASED)
Condition = ColumnElement[bool]


def lease_next(
    session: Session,
    *,
    device_id: str,
    pool: str | None,
    agent_id: str,
    serves: Sequence[str],
    now: datetime,
    expires_at: datetime,
) -> JobRow | None:
    """Takes the first queued job that this device may run; ``pool`` is its fingerprint, None while it gets no shared
    work. Two callers never get the same job."""
    statement = (
        update(JobRow)
        .where(JobRow.id == _first_queued(session, device_id, pool, serves), JobRow.state == JobState.QUEUED)
        .values(
            state=JobState.LEASED, fencing_token=JobRow.fencing_token + 1, agent_id=agent_id, leased_by=device_id,
            lease_expires_at=expires_at, leased_at=now, progress=None, message="",
        )
        .returning(JobRow)
        .execution_options(synchronize_session=False, populate_existing=True)
    )  # fmt: skip
    return session.scalars(statement).one_or_none()


def _first_queued(
    session: Session, device_id: str, pool: str | None, serves: Sequence[str]
) -> ColumnElement[str]:
    queued = aliased(JobRow)
    query = select(queued.id).where(open_to(device_id, pool, serves, queued)).order_by(*in_turn(queued)).limit(1)
    if session.get_bind().dialect.name == "postgresql":
        query = query.with_for_update(skip_locked=True)
    return query.scalar_subquery()


def open_to(
    device_id: str, pool: str | None, serves: Sequence[str], row: type[JobRow] = JobRow
) -> ColumnElement[bool]:
    """Condition for queued jobs that this device may lease."""
    anyone = row.pool.is_(None) if pool is None else or_(row.pool.is_(None), row.pool == pool)
    mine = or_(row.device_id == device_id, and_(row.device_id.is_(None), anyone))
    return and_(row.state == JobState.QUEUED, row.kind.in_(serves), mine)


def in_turn(row: type[JobRow] = JobRow) -> tuple[ColumnElement[Any], ...]:
    """The order in which jobs are handed out."""
    return (row.created_at.expression, row.id.expression)


def upcoming(session: Session, device_id: str, pool: str | None, serves: Sequence[str], limit: int) -> list[JobRow]:
    """The jobs that this device would get next, without taking them."""
    query = select(JobRow).where(open_to(device_id, pool, serves)).order_by(*in_turn()).limit(limit)
    return list(session.scalars(query.options(undefer(JobRow.payload))))


def held(job_id: str, fencing_token: int, device_id: str) -> ColumnElement[bool]:
    """True for the job only while this lease is the live one."""
    return and_(
        JobRow.id == job_id,
        JobRow.fencing_token == fencing_token,
        JobRow.leased_by == device_id,
        JobRow.state == JobState.LEASED,
    )


def live(job_id: str, fencing_token: int, before: datetime) -> ColumnElement[bool]:
    """True while the lease is the live one and expired before ``before`` (a heartbeat may have come in between)."""
    return and_(
        JobRow.id == job_id,
        JobRow.fencing_token == fencing_token,
        JobRow.state == JobState.LEASED,
        JobRow.lease_expires_at < before,
    )


def change(session: Session, condition: ColumnElement[bool], **values: Any) -> JobRow | None:
    """One conditional UPDATE; None when the condition no longer holds."""
    statement = update(JobRow).where(condition).values(**values).returning(JobRow)
    return session.scalars(statement.execution_options(synchronize_session=False, populate_existing=True)).one_or_none()


def record_of(row: JobRow) -> JobRecord:
    return JobRecord(
        id=row.id, trial_id=row.trial_id, target=row.target, pool=row.pool, device_id=row.device_id, form=row.form,
        state=JobState(row.state), error=row.error, error_code=row.error_code,
    )  # fmt: skip


def job_of(row: JobRow) -> MeasureJob | TrainJob:
    """The work that its agent is given."""
    cls = MeasureJob if row.kind == "measure" else TrainJob
    return cls.model_validate(row.payload)


def exists(session: Session, condition: Condition) -> bool:
    return session.scalars(select(JobRow.id).where(condition)).first() is not None


def expired(session: Session, now: datetime) -> list[tuple[str, int]]:
    """(job id, fencing token) of the leases that ran out."""
    query = select(JobRow.id, JobRow.fencing_token)
    query = query.where(JobRow.state == JobState.LEASED, JobRow.lease_expires_at < now)
    if session.get_bind().dialect.name == "postgresql":  # do not wait for a job whose result is being stored
        query = query.with_for_update(skip_locked=True)
    return [(job_id, token) for job_id, token in session.execute(query)]


def extend_all_leases(session: Session, expires_at: datetime) -> int:
    """After a restart of the coordinator: no lease could be renewed while it was down."""
    statement = (
        update(JobRow)
        .where(JobRow.state == JobState.LEASED, JobRow.lease_expires_at < expires_at)
        .values(lease_expires_at=expires_at)
        .returning(JobRow.id)
        .execution_options(synchronize_session=False)
    )
    return len(session.scalars(statement).all())


def end_queued(session: Session, condition: ColumnElement[bool], state: JobState, now: datetime, **values: Any) -> int:
    """Ends queued jobs under ``condition`` as ``state``; leased ones are left to their holder."""
    statement = (
        update(JobRow)
        .where(JobRow.state == JobState.QUEUED, condition)
        .values(state=state, finished_at=now, **values)
        .returning(JobRow.id)
        .execution_options(synchronize_session=False)
    )
    return len(session.scalars(statement).all())


def find_by_submit_key(session: Session, submit_key: str) -> JobRow | None:
    return session.scalars(select(JobRow).where(JobRow.submit_key == submit_key)).one_or_none()


def jobs_query(
    *, study_id: str | None = None, device_id: str | None = None, state: str | None = None, trial_id: str | None = None
) -> Select[JobRow]:
    """Newest first."""
    query = select(JobRow).order_by(JobRow.created_at.desc(), JobRow.id)
    for column, value in (
        (JobRow.study_id, study_id),
        (JobRow.leased_by, device_id),
        (JobRow.state, state),
        (JobRow.trial_id, trial_id),
    ):
        if value is not None:
            query = query.where(column == value)
    return query


def count_by_state(session: Session, study_id: str) -> dict[str, int]:
    query = select(JobRow.state, func.count()).where(JobRow.study_id == study_id).group_by(JobRow.state)
    return dict(session.execute(query).all())


def count_queued(session: Session, device_id: str, pool: str | None) -> int:
    """Jobs that wait for this device or its pool; not those that any device may take."""
    shared = and_(JobRow.device_id.is_(None), JobRow.pool == pool) if pool else JobRow.device_id == device_id
    query = select(func.count()).where(or_(JobRow.device_id == device_id, shared), JobRow.state == JobState.QUEUED)
    return session.scalar(query) or 0


def release(session: Session, device_id: str) -> int:
    """Jobs of a pool that were assigned to this device go back to the pool."""
    statement = (
        update(JobRow)
        .where(JobRow.state == JobState.QUEUED, JobRow.device_id == device_id, JobRow.pool.is_not(None))
        .values(device_id=None)
        .returning(JobRow.id)
        .execution_options(synchronize_session=False)
    )
    return len(session.scalars(statement).all())


def count_by_target(session: Session, study_id: str) -> dict[tuple[str, str], int]:
    """(target, state) -> measurement jobs of the search."""
    query = (
        select(JobRow.target, JobRow.state, func.count())
        .where(JobRow.study_id == study_id, JobRow.kind == "measure")
        .group_by(JobRow.target, JobRow.state)
    )
    return {(target, state): count for target, state, count in session.execute(query)}


def count_late(session: Session, job_id: str) -> int:
    return session.scalar(select(func.count()).select_from(LateResultRow).where(LateResultRow.job_id == job_id)) or 0
