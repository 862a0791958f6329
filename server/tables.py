"""All tables. They are the source of truth: studies are rebuilt from them after any crash.

studies 1-n trials 1-n jobs 1-1 measurements | training_results        devices 1-n agents, jobs
training_runs 1-n training_curves: the progress of a training, of a job or on a user's own machine
late_results: results under an old fencing token, kept but never counted
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, ForeignKey, Index, Integer, MetaData, String, Text, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """Aware datetimes in and out; SQLite keeps no zone, so everything is stored as UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Json = JSON().with_variant(JSONB(), "postgresql")
Id = String(40)
Word = String(20)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime(), dict[str, Any]: Json, list[Any]: Json}


class StudyRow(Base):
    """``generation`` is the study's own fencing token: it grows with every resume, so that an old loop cannot end the
    study for a new one."""

    __tablename__ = "studies"
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(120))
    state: Mapped[str] = mapped_column(Word, index=True)
    reason: Mapped[str] = mapped_column(Text, default="")
    spec: Mapped[dict[str, Any]]
    reference_point: Mapped[dict[str, Any]] = mapped_column(default=dict)
    generation: Mapped[int] = mapped_column(default=1)
    idempotency_key: Mapped[str | None] = mapped_column(String(200), unique=True)
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class TrialRow(Base):
    __tablename__ = "trials"
    __table_args__ = (UniqueConstraint("study_id", "number"), Index("ix_trials_open", "study_id", "state"))
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    study_id: Mapped[str] = mapped_column(ForeignKey("studies.id"))
    number: Mapped[int]
    state: Mapped[str] = mapped_column(Word, index=True)
    reason: Mapped[str] = mapped_column(Text, default="")
    assignment: Mapped[dict[str, Any]]
    sampler_attrs: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    arch: Mapped[dict[str, Any]]
    arch_digest: Mapped[str] = mapped_column(String(64), index=True)
    costs: Mapped[dict[str, Any]] = mapped_column(default=dict)
    blocks: Mapped[list[Any]] = mapped_column(default=list)
    values: Mapped[dict[str, Any]] = mapped_column(default=dict)
    artifacts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    quality: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True).with_variant(
        JSONB(none_as_null=True), "postgresql"
    ))  # fmt: skip
    final_quality: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True).with_variant(
        JSONB(none_as_null=True), "postgresql"
    ))  # fmt: skip
    program_quality: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True).with_variant(
        JSONB(none_as_null=True), "postgresql"
    ))  # fmt: skip
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class DeviceRow(Base):
    __tablename__ = "devices"
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(120), unique=True)
    fingerprint: Mapped[str] = mapped_column(String(64), index=True)
    facts: Mapped[dict[str, Any]]
    serves: Mapped[list[Any]]
    draining: Mapped[bool] = mapped_column(default=False)
    quarantine: Mapped[str] = mapped_column(Text, default="")  # why it gets no shared work
    canary: Mapped[dict[str, Any]] = mapped_column(default=dict)
    canary_at: Mapped[datetime | None]
    last_seen: Mapped[datetime]
    created_at: Mapped[datetime]


class CanaryRow(Base):
    """A device's canary, per ``Plan.canary_key``: ``median_ms`` is the last time not contradicted by its peers,
    ``reference_ms`` the device's present reference, ``unlike_rows`` the number of contradicted rows in a row."""

    __tablename__ = "canaries"
    device_id: Mapped[str] = mapped_column(ForeignKey("devices.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(24), primary_key=True)
    median_ms: Mapped[float | None]
    reference_ms: Mapped[float]
    unlike_rows: Mapped[int] = mapped_column(default=0)
    measured_at: Mapped[datetime]


class AgentRow(Base):
    """A credential of a device; enrolling again revokes earlier ones."""

    __tablename__ = "agents"
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    device_id: Mapped[str] = mapped_column(ForeignKey("devices.id"), index=True)
    secret_hash: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class EnrolmentTokenRow(Base):
    """``serves``: the kinds of jobs that an agent enrolled with it may take."""

    __tablename__ = "enrolment_tokens"
    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    note: Mapped[str] = mapped_column(String(200), default="")
    serves: Mapped[list[Any]]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    created_at: Mapped[datetime]


class TokenRow(Base):
    __tablename__ = "tokens"
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(120))
    scope: Mapped[str] = mapped_column(Word)
    secret_hash: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class JobRow(Base):
    """``submit_key`` makes submitting idempotent; a cancelled job gives up its key.

    Who may lease it: ``device_id`` when that is set; else every device whose fingerprint is ``pool``; with neither,
    any device. A job of a pool that was assigned to one of its devices keeps its ``pool`` beside the ``device_id``."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_queue", "state", "device_id", "created_at"),
        Index("ix_jobs_pool", "state", "pool", "created_at"),
    )
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    kind: Mapped[str] = mapped_column(Word)
    form: Mapped[str] = mapped_column(Word, default="")
    state: Mapped[str] = mapped_column(Word)
    study_id: Mapped[str] = mapped_column(ForeignKey("studies.id"), index=True)
    trial_id: Mapped[str] = mapped_column(ForeignKey("trials.id"), index=True)
    device_id: Mapped[str | None] = mapped_column(ForeignKey("devices.id"))
    pool: Mapped[str | None] = mapped_column(String(64))
    target: Mapped[str] = mapped_column(Id, default="")
    submit_key: Mapped[str | None] = mapped_column(String(64), unique=True)
    plan_digest: Mapped[str] = mapped_column(String(64), default="")
    payload: Mapped[dict[str, Any]] = mapped_column(deferred=True)
    fencing_token: Mapped[int] = mapped_column(default=0)
    attempts: Mapped[int] = mapped_column(default=0)
    agent_id: Mapped[str | None] = mapped_column(Id)
    leased_by: Mapped[str | None] = mapped_column(Id, index=True)  # device id of the holder
    lease_expires_at: Mapped[datetime | None]
    progress: Mapped[float | None]
    message: Mapped[str] = mapped_column(Text, default="")
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
    error: Mapped[str] = mapped_column(Text, default="")
    error_code: Mapped[str] = mapped_column(String(60), default="")
    verdict: Mapped[str] = mapped_column(Word, default="")
    created_at: Mapped[datetime]
    leased_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class MeasurementRow(Base):
    """``job_id`` is unique: a job's result counts once. ``source_id`` is set instead for a reused row."""

    __tablename__ = "measurements"
    __table_args__ = (
        Index("ix_measurements_key", "plan_digest", "fingerprint"),
        Index("ix_measurements_device", "device_id", "created_at"),
    )
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"), unique=True)
    source_id: Mapped[str | None] = mapped_column(ForeignKey("measurements.id"))
    trial_id: Mapped[str] = mapped_column(ForeignKey("trials.id"), index=True)
    device_id: Mapped[str] = mapped_column(ForeignKey("devices.id"))
    fingerprint: Mapped[str] = mapped_column(String(64))
    plan_digest: Mapped[str] = mapped_column(String(64))
    form: Mapped[str] = mapped_column(Word)
    target: Mapped[str] = mapped_column(Id, default="")
    verdict: Mapped[str] = mapped_column(Word)
    body: Mapped[dict[str, Any]]  # the Measurement without its raw events
    created_at: Mapped[datetime]


class MeasurementEventsRow(Base):
    """The runner's raw lines, kept apart because they are large and rarely read."""

    __tablename__ = "measurement_events"
    measurement_id: Mapped[str] = mapped_column(ForeignKey("measurements.id"), primary_key=True)
    events: Mapped[list[Any]]


class TrainingResultRow(Base):
    """A trainer's result of a job."""

    __tablename__ = "training_results"
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), unique=True)
    trial_id: Mapped[str] = mapped_column(ForeignKey("trials.id"), index=True)
    body: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class TrainingRunRow(Base):
    """The progress of a recipe. The run of a job has the job's id and state; ``state`` here is that of a run without a
    job. ``strides``: stage -> a thinned curve keeps one line per this many steps. ``revision`` grows with every
    change."""

    __tablename__ = "training_runs"
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"), unique=True)
    trial_id: Mapped[str | None] = mapped_column(ForeignKey("trials.id"), index=True)
    name: Mapped[str] = mapped_column(String(120))
    recipe: Mapped[str] = mapped_column(String(120))
    state: Mapped[str] = mapped_column(Word)
    stop_requested: Mapped[bool] = mapped_column(default=False)
    share: Mapped[float | None]
    message: Mapped[str] = mapped_column(Text, default="")
    stages: Mapped[list[Any]] = mapped_column(default=list)
    strides: Mapped[dict[str, Any]] = mapped_column(default=dict)
    revision: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class TrainingCurveRow(Base):
    """One step of one stage of a run: loss and other reported values."""

    __tablename__ = "training_curves"
    training_id: Mapped[str] = mapped_column(ForeignKey("training_runs.id"), primary_key=True)
    stage: Mapped[str] = mapped_column(String(80), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    values: Mapped[dict[str, Any]]


class LateResultRow(Base):
    __tablename__ = "late_results"
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    fencing_token: Mapped[int]
    device_id: Mapped[str | None] = mapped_column(Id)
    reason: Mapped[str] = mapped_column(Word)
    body: Mapped[dict[str, Any]]
    received_at: Mapped[datetime]


class QualityRow(Base):
    """The quality of an architecture under one estimator key, shared by all studies."""

    __tablename__ = "qualities"
    arch_digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    body: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class ComparisonRow(Base):
    """A published comparison; ``digest`` is that of its body, so that the same one is kept once."""

    __tablename__ = "comparisons"
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    title: Mapped[str] = mapped_column(String(120))
    fingerprint: Mapped[str] = mapped_column(String(64), index=True)
    body: Mapped[dict[str, Any]] = mapped_column(deferred=True)
    created_at: Mapped[datetime]


class EventRow(Base):
    """``id`` is the SSE event id; it grows with commit order within a study."""

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_study", "study_id", "id"), {"sqlite_autoincrement": True})
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    study_id: Mapped[str] = mapped_column(ForeignKey("studies.id"))
    event: Mapped[str] = mapped_column(String(60))
    fields: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class ArtifactRow(Base):
    """A stored file. The file in the artifact folder is the source of truth; this row adds its media type."""

    __tablename__ = "artifacts"
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    num_bytes: Mapped[int] = mapped_column(BigInteger)
    media_type: Mapped[str] = mapped_column(String(120))
    created_at: Mapped[datetime]
