"""Enrolment, liveness and draining."""

from __future__ import annotations

from datetime import timedelta

import structlog
from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import Session

from contracts.device import DeviceFacts
from contracts.job import Credential, Enrolment, JobKind
from contracts.states import JobState
from server.auth.repository import revoke_agents
from server.auth.service import hash_secret, new_secret
from server.context import Context, new_id
from server.devices import peers, repository
from server.devices.schemas import CanaryView, CurrentJob, DeviceView, EnrolmentToken, EnrolmentTokenRequest
from server.errors import Conflict, Gone, NotAllowed, NotAuthenticated
from server.hub import publish, queue_topic, work_topic
from server.jobs import repository as jobs
from server.readable import finite
from server.tables import AgentRow, DeviceRow, EnrolmentTokenRow, JobRow, TrialRow

log = structlog.get_logger(__name__)
EVERY_KIND: list[JobKind] = ["measure", "train"]
NUM_VERDICTS = 50  # latest rows that verdicts are counted over


def create_enrolment_token(session: Session, ctx: Context, request: EnrolmentTokenRequest) -> EnrolmentToken:
    token = new_secret("hle")
    ttl_s = request.expires_in_s or ctx.settings.enrolment_ttl_s
    serves = request.serves or (EVERY_KIND if ctx.settings.auth == "local" else ["measure"])
    row = EnrolmentTokenRow(
        token_hash=hash_secret(token), note=request.note, serves=list(dict.fromkeys(serves)), created_at=ctx.now(),
        expires_at=ctx.now() + timedelta(seconds=ttl_s),
    )  # fmt: skip
    session.add(row)
    return EnrolmentToken(token=token, serves=row.serves, expires_at=row.expires_at)


def enrol(session: Session, ctx: Context, enrolment: Enrolment) -> Credential:
    """Uses up the token and returns a credential. The same name on the same hardware keeps its device id. Raises
    NotAllowed, and leaves the token unused, when the token does not allow a kind of job that the agent serves."""
    _use_token(session, ctx, enrolment)
    device = _device(session, ctx, enrolment.facts)
    device.facts = enrolment.facts.model_dump(mode="json")
    device.serves = list(enrolment.serves)
    device.draining = False
    device.last_seen = ctx.now()
    session.flush()
    revoke_agents(session, device.id, ctx.now())
    secret = new_secret("hld")
    agent = AgentRow(id=new_id("agent"), device_id=device.id, secret_hash=hash_secret(secret), created_at=ctx.now())
    session.add(agent)
    wake_studies(session)
    log.info("device_enrolled", device_id=device.id, name=device.name, fingerprint=device.fingerprint)
    return Credential(agent_id=agent.id, device_id=device.id, secret=secret)


def _use_token(session: Session, ctx: Context, enrolment: Enrolment) -> None:
    token_hash = hash_secret(enrolment.token)
    row = session.get(EnrolmentTokenRow, token_hash)
    if row is None:
        raise NotAuthenticated("unknown enrolment token; create one with POST /api/v1/devices/tokens")
    if not repository.use_enrolment_token(session, token_hash, ctx.now()):
        why = "was already used" if row.used_at else f"expired at {row.expires_at:%Y-%m-%d %H:%M} UTC"
        raise Gone(f"this enrolment token {why}; create a new one with POST /api/v1/devices/tokens", code="token_gone")
    if refused := [kind for kind in enrolment.serves if kind not in row.serves]:
        raise NotAllowed(
            f"this enrolment token allows {' and '.join(row.serves)} jobs, not {refused[0]} jobs; create another with"
            f' POST /api/v1/devices/tokens {{"serves": ["{refused[0]}"]}}',
            code="kind_not_allowed",
        )


def _device(session: Session, ctx: Context, facts: DeviceFacts) -> DeviceRow:
    device = repository.find_by_name(session, facts.name)
    if device is None:
        device = DeviceRow(
            id=new_id("device"), name=facts.name, fingerprint=facts.fingerprint, facts={}, serves=[], canary={},
            last_seen=ctx.now(), created_at=ctx.now(),
        )  # fmt: skip
        session.add(device)
    elif device.fingerprint != facts.fingerprint:
        raise Conflict(
            f"the name {facts.name!r} belongs to other hardware ({device.facts.get('model')}, fingerprint"
            f" {device.fingerprint}; this is {facts.fingerprint}); enrol this device under another name",
            code="device_name_taken",
        )
    return device


def wake_studies(session: Session) -> None:
    """Wakes every running study: the set of devices changed."""
    query = select(JobRow.study_id).where(JobRow.state.in_(jobs.OPEN)).distinct()
    for study_id in session.scalars(query):
        publish(session, work_topic(study_id))


def seen(session: Session, ctx: Context, device_id: str) -> None:
    session.get_one(DeviceRow, device_id).last_seen = ctx.now()


def drain(session: Session, ctx: Context, device_id: str, draining: bool) -> DeviceRow:
    """A draining device finishes its job and gets no more. Its queued jobs go to its peers; without peers they fail
    with that reason, so that no study waits for a device that takes no jobs."""
    device = repository.get_or_raise(session, device_id)
    device.draining = draining
    session.flush()
    if draining:
        _give_up_queue(session, ctx, device)
    else:
        peers.readmit(session, device)
    _wake_studies_of(session, device)
    publish(session, queue_topic(device_id))
    publish(session, queue_topic(device.fingerprint))
    log.info("device_drained" if draining else "device_returned", device_id=device_id)
    return device


def _give_up_queue(session: Session, ctx: Context, device: DeviceRow) -> None:
    """A peer in quarantine counts too: its owner can resume it."""
    abandoned = JobRow.device_id == device.id
    if any(row.fingerprint == device.fingerprint for row in repository.measuring(session)):
        jobs.release(session, device.id)
        abandoned = and_(abandoned, JobRow.pool.is_(None))
    else:
        abandoned = or_(abandoned, and_(JobRow.device_id.is_(None), JobRow.pool == device.fingerprint))
    jobs.end_queued(
        session, abandoned, JobState.FAILED, ctx.now(), error_code="device_drained",
        error=f"device {device.name} was drained before this job started",
    )  # fmt: skip


def _wake_studies_of(session: Session, device: DeviceRow) -> None:
    query = select(JobRow.study_id).where(_waits_for(device)).distinct()
    for study_id in session.scalars(query):
        publish(session, work_topic(study_id))


def _waits_for(device: DeviceRow) -> ColumnElement[bool]:
    return or_(JobRow.device_id == device.id, JobRow.pool == device.fingerprint)


def views(session: Session, ctx: Context) -> list[DeviceView]:
    current = repository.current_jobs(session)
    return [view(session, ctx, row, current.get(row.id)) for row in repository.all_devices(session)]


def view(session: Session, ctx: Context, row: DeviceRow, job: JobRow | None) -> DeviceView:
    return DeviceView(
        id=row.id, name=row.name, state="online" if is_online(ctx, row) else "offline", draining=row.draining,
        fingerprint=row.fingerprint, facts=repository.facts_of(row), serves=row.serves,
        last_seen=row.last_seen, current_job=_current(session, job) if job else None,
        num_queued=jobs.count_queued(session, row.id, None if row.quarantine else row.fingerprint),
        canary=_canary(row),
        quarantine=row.quarantine, twins=repository.names_of_peers(session, row),
        verdicts=repository.count_verdicts(session, row.id, NUM_VERDICTS),
        environment=repository.last_environment(session, row.id),
    )  # fmt: skip


def _canary(row: DeviceRow) -> CanaryView | None:
    """Only the three known numbers; an agent may have stored others."""
    if not row.canary:
        return None
    known = {name: finite(row.canary.get(name)) for name in ("reference_ms", "median_ms", "drift")}
    return CanaryView.model_validate({**known, "measured_at": row.canary_at})


def is_online(ctx: Context, row: DeviceRow) -> bool:
    return (ctx.now() - row.last_seen).total_seconds() <= ctx.settings.offline_after_s


def _current(session: Session, job: JobRow) -> CurrentJob:
    trial = session.get(TrialRow, job.trial_id)
    return CurrentJob(
        id=job.id, kind=job.kind, study_id=job.study_id, trial_id=job.trial_id,
        trial_number=trial.number if trial else None, progress=job.progress, message=job.message,
    )  # fmt: skip
