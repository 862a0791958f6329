"""Starting, stopping and resuming studies, and reporting their progress."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from contracts.device import DEFAULT_THREADS, RUNNER_DELEGATES, DeviceFacts
from contracts.states import FINISHED_TRIALS, JobState, StudyState
from contracts.study import MAX_TRIALS, StudyRecord, StudySpec
from foundation.errors import InvalidConfig
from nas.export.backends import BACKENDS
from nas.feasibility import KEPT, REJECTED
from nas.targets import matches
from search_space.arch import ArchConfig
from search_space.quantizable import require_quantizable
from search_space.space import space
from server.context import Context, new_id
from server.devices import repository as devices
from server.errors import Conflict, Malformed
from server.events.repository import emit, last_event_id
from server.hub import publish, work_topic
from server.jobs import repository as jobs
from server.studies import progress, repository
from server.studies.front import view_of
from server.studies.schemas import Front, StudySummary, StudyView
from server.tables import JobRow, StudyRow, TrialRow
from server.trials import repository as trials
from server.trials import service as trial_service


def create(session: Session, ctx: Context, spec: StudySpec, idempotency_key: str | None) -> tuple[StudyRow, bool]:
    """The study and whether it is new: the same key with the same body returns the existing study."""
    if idempotency_key and (known := repository.find_by_key(session, idempotency_key)):
        if repository.record_of(known).spec != spec:
            raise Conflict(
                f"Idempotency-Key {idempotency_key!r} was used for another study ({known.id}); use a new key",
                code="idempotency_conflict",
            )
        return known, False
    _check_devices(session, spec)
    ctx.check_spec(spec)
    _check_warm_start(session, spec)
    _check_devices_able(session, spec)
    row = StudyRow(
        id=new_id("study"), name=spec.name, state=StudyState.RUNNING, spec=spec.model_dump(mode="json"),
        reason="", reference_point={}, generation=1, idempotency_key=idempotency_key or None, created_at=ctx.now(),
    )  # fmt: skip
    session.add(row)
    session.flush()
    emit(session, ctx.now(), row.id, "study_started", name=row.name)
    return row, True


def _check_devices(session: Session, spec: StudySpec) -> None:
    enrolled = {row.id: row.name for row in devices.all_devices(session)}
    unknown = [device_id for device_id in spec.devices if device_id not in enrolled]
    if unknown:
        known = ", ".join(f"{device_id} ({name})" for device_id, name in enrolled.items()) or "none"
        raise InvalidConfig(f"device {unknown[0]!r} is not enrolled; enrolled devices: {known}")


def _check_warm_start(session: Session, spec: StudySpec) -> None:
    """Raises Malformed for a study that is not there or that searched another space."""
    own = space(spec.space, spec.space_options) if spec.warm_start else None
    for study_id in spec.warm_start:
        row = session.get(StudyRow, study_id)
        if row is None or own is None:
            raise Malformed(f"warm_start: there is no study {study_id!r}; GET /api/v1/studies lists them")
        other = repository.record_of(row).spec
        if not own.same_as(theirs := space(other.space, other.space_options)):
            raise Malformed(
                f"warm_start: study {row.name!r} searched another space ({theirs.name}) than {own.name}; name studies"
                " of the same space, with the same options"
            )


def _check_devices_able(session: Session, spec: StudySpec) -> None:
    """Raises InvalidConfig if programs would be compiled, or threads asked for, that no device can run."""
    measuring = devices.measuring_facts(session)
    for target in spec.targets:
        chosen = [facts for device_id, facts in measuring.items() if matches(target, device_id, facts)]
        _require_able(spec.backend_of(target.name), chosen, f"of target {target.name} ")
        _require_cores(target.threads or spec.threads, chosen, f"of target {target.name} ")
    for device_id in spec.devices:
        chosen = [measuring[device_id]] if device_id in measuring else []
        _require_able(spec.backend, chosen, f"{device_id} ")
        _require_cores(spec.threads, chosen, f"{device_id} ")
    if not spec.targets and not spec.devices:
        _require_able(spec.backend, list(measuring.values()), "")
        _require_cores(spec.threads, list(measuring.values()), "")


def _require_cores(threads: int, chosen: Sequence[DeviceFacts], whose: str) -> None:
    """A device that is not enrolled yet, or that does not say how many cores it has, may have enough."""
    most = max((facts.cores or threads for facts in chosen), default=threads)
    if threads > max(most, DEFAULT_THREADS):
        cores = ", ".join(f"{facts.name} has {facts.cores}" for facts in chosen[:4])
        raise InvalidConfig(
            f"no enrolled device {whose}has {threads} cores for {threads} threads ({cores}): give at most {most}"
        )


def _require_able(name: str, chosen: Sequence[DeviceFacts], whose: str) -> None:
    """A device that is not enrolled yet is assumed to have our runner."""
    backend, available = BACKENDS.get_or_raise(name), [facts.delegates for facts in chosen] or [RUNNER_DELEGATES]
    if not any(delegates.issuperset(backend.delegates) for delegates in available):
        theirs = ", ".join(sorted(frozenset[str]().union(*available))) or "none"
        raise InvalidConfig(
            f"no enrolled device {whose}can run programs of backend {name}: it needs a runner with"
            f" {', '.join(backend.delegates)}; available: {theirs}"
        )


def stop(session: Session, ctx: Context, study_id: str) -> StudyRow:
    """Cancels queued measurements at once and running ones with their next heartbeat; nothing measured is lost."""
    row = repository.get_or_raise(session, study_id)
    if row.state == StudyState.STOPPED:
        return row
    if row.state != StudyState.RUNNING:
        raise Conflict(f"study {row.name!r} is {row.state}: only a running study can be stopped", code="not_running")
    end(session, ctx, row, StudyState.STOPPED, "stopped by its user")
    return row


def end(session: Session, ctx: Context, row: StudyRow, state: StudyState, reason: str) -> None:
    row.state, row.reason, row.finished_at = state, reason, ctx.now()
    mine = (JobRow.study_id == row.id) & (JobRow.kind == "measure") & (JobRow.form != "trained")
    jobs.end_queued(session, mine, JobState.CANCELLED, ctx.now(), submit_key=None, message=f"study {state}")
    publish(session, work_topic(row.id))
    emit(session, ctx.now(), row.id, f"study_{state}", reason=reason)


def resume(session: Session, ctx: Context, study_id: str) -> StudyRow:
    """Continues the study: every stored measurement and quality estimate counts. A finished study cannot be resumed."""
    row = repository.get_or_raise(session, study_id)
    if row.state == StudyState.FINISHED:
        raise Conflict(
            f"study {row.name!r} is finished; start a new one to search further (measurements are reused)",
            code="study_finished",
        )
    if row.state != StudyState.RUNNING:
        row.state, row.reason, row.finished_at = StudyState.RUNNING, "", None
        row.generation += 1
        emit(session, ctx.now(), row.id, "study_resumed", generation=row.generation)
    return row


def extend(session: Session, ctx: Context, study_id: str, trials: int) -> StudyRow:
    """Allows that many more candidates; a study that ended goes on from what it knows."""
    row = repository.get_or_raise(session, study_id)
    spec = repository.record_of(row).spec
    if spec.max_trials + trials > MAX_TRIALS:
        raise InvalidConfig(f"a study has at most {MAX_TRIALS} candidates; {spec.max_trials} + {trials} are more")
    row.spec = {**row.spec, "max_trials": spec.max_trials + trials}
    row.state, row.reason, row.finished_at = StudyState.RUNNING, "", None
    row.generation += 1
    emit(session, ctx.now(), row.id, "study_extended", generation=row.generation, trials=trials)
    return row


def enqueue(session: Session, ctx: Context, study_id: str, arch: ArchConfig, name: str) -> TrialRow:
    """Adds a candidate of the study's space that is measured next. Raises Conflict if the study knows it already or has
    ended, InvalidConfig if it is not in the space."""
    row = repository.get_or_raise(session, study_id)
    if row.state != StudyState.RUNNING:
        raise Conflict(f"study {row.name!r} is {row.state}: extend or resume it first", code="not_running")
    spec = repository.record_of(row).spec
    require_quantizable(arch, spec.quantization)
    assignment = space(spec.space, spec.space_options).encode(arch)
    known = trials.find_by_arch(session, study_id, arch.digest)
    if known is not None:
        raise Conflict(f"candidate {known.number} of this study is this architecture", code="known_candidate")
    return trial_service.add(session, ctx, study_id, assignment, arch, {"name": name} if name else None)


def summary(session: Session, row: StudyRow) -> StudySummary:
    return StudySummary(
        id=row.id, name=row.name, state=StudyState(row.state), reason=row.reason,
        max_trials=repository.record_of(row).spec.max_trials, trials=trials.count_by_state(session, row.id),
        jobs=jobs.count_by_state(session, row.id), created_at=row.created_at, finished_at=row.finished_at,
    )  # fmt: skip


def view(session: Session, ctx: Context, row: StudyRow) -> StudyView:
    study = repository.record_of(row)
    found = front(session, study)
    return StudyView(
        **summary(session, row).model_dump(), spec=study.spec, objectives=study.spec.all_objectives,
        budgets=study.spec.all_budgets, targets=progress.target_views(session, study),
        reference_point=study.reference_point,
        eta_s=_eta_s(session, ctx, row), front_size=len(found.members), hypervolume=found.hypervolume,
        last_event_id=last_event_id(session, row.id), notes=progress.notes(session, ctx, study),
    )  # fmt: skip


def front(session: Session, study: StudyRecord, target: str | None = None, misses: bool = False) -> Front:
    """``misses``: with the nearest misses, for which all rejected trials are read where no candidate was kept."""
    rows = trials.rows_of(session, study.id, states=["complete"])
    counts = trials.count_by_state(session, study.id) if misses else {}
    rejected = [] if any(counts.get(state) for state in KEPT) else [state for state in REJECTED if counts.get(state)]
    missed = trials.views(session, trials.rows_of(session, study.id, states=rejected), lean=True) if rejected else []
    return view_of(study, trials.views(session, rows, lean=True), target, missed)


def _eta_s(session: Session, ctx: Context, row: StudyRow) -> float | None:
    """Trials left times the mean time per finished trial since the study began; None before the first."""
    if row.state != StudyState.RUNNING:
        return None
    counts = trials.count_by_state(session, row.id)
    finished = sum(counts.get(state, 0) for state in FINISHED_TRIALS)
    if not finished:
        return None
    left = max(0, repository.record_of(row).spec.max_trials - finished)
    return left * (ctx.now() - row.created_at).total_seconds() / finished
