"""``SqlStudyStore`` implements nas.store.StudyStore over our tables. Every method is one transaction."""

from __future__ import annotations

import errno
import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from contracts.device import DeviceFacts
from contracts.job import JobRecord, MeasureJob
from contracts.measurement import Verdict
from contracts.states import JobState, StudyState, TrialState
from contracts.study import QualityResult, StoredMeasurement, StudyRecord, StudySpec, TrialFacts, TrialRecord
from nas.targets import DeviceGroup
from search_space.arch import ArchConfig
from server.artifacts.repository import record
from server.context import Context
from server.devices import repository as devices
from server.errors import DiskFull
from server.events.repository import emit
from server.hub import work_topic
from server.jobs import queue
from server.jobs import repository as jobs
from server.studies import repository as studies
from server.studies import service as study_service
from server.tables import ArtifactRow, JobRow, QualityRow, StudyRow
from server.trials import repository as trials
from server.trials import service as trial_service


class SqlStudyStore:
    """Bound to one run of one study. Once the study was resumed in another run, or ``closing`` is set because the
    coordinator shuts down, this run is told to stop and can no longer end the study."""

    def __init__(self, ctx: Context, study_id: str, closing: threading.Event | None = None) -> None:
        self._ctx = ctx
        self._study_id = study_id
        self._closing = closing or threading.Event()
        self._topic = work_topic(study_id)
        self._seen = ctx.hub.versions([self._topic])[self._topic]
        with ctx.database.read() as session:
            self._generation = studies.get_or_raise(session, study_id).generation

    def study(self) -> StudyRecord:
        with self._ctx.database.read() as session:
            return studies.record_of(self._row(session))

    def trials(
        self, states: Collection[TrialState] | None = None, ids: Collection[str] | None = None
    ) -> list[TrialRecord]:
        with self._ctx.database.read() as session:
            return trials.records(session, trials.rows_of(session, self._study_id, states=states, ids=ids))

    def other_study(self, study_id: str) -> tuple[StudySpec, list[TrialFacts]] | None:
        with self._ctx.database.read() as session:
            row = session.get(StudyRow, study_id)
            if row is None:
                return None
            found = trials.views(session, trials.rows_of(session, study_id))
            return studies.record_of(row).spec, list(found)

    def devices(self) -> dict[str, DeviceFacts]:
        with self._ctx.database.read() as session:
            return devices.measuring_facts(session)

    def add_trial(
        self, assignment: dict[str, Any], arch: ArchConfig, sampler_attrs: dict[str, Any] | None = None
    ) -> TrialRecord:
        with self._ctx.database.write() as session:
            row = trial_service.add(session, self._ctx, self._study_id, assignment, arch, sampler_attrs)
            return trials.records(session, [row])[0]

    def update_trial(
        self,
        trial_id: str,
        *,
        state: TrialState | None = None,
        reason: str | None = None,
        costs: dict[str, float] | None = None,
        blocks: Sequence[str] | None = None,
        values: dict[str, float] | None = None,
        artifacts: dict[str, str] | None = None,
        quality: QualityResult | None = None,
        final_quality: QualityResult | None = None,
        program_quality: QualityResult | None = None,
    ) -> TrialRecord:
        given = {
            "state": state, "reason": reason, "costs": costs, "values": values, "artifacts": artifacts,
            "blocks": list(blocks) if blocks is not None else None,
            "quality": quality.model_dump(mode="json") if quality else None,
            "final_quality": final_quality.model_dump(mode="json") if final_quality else None,
            "program_quality": program_quality.model_dump(mode="json") if program_quality else None,
        }  # fmt: skip
        changes = {name: value for name, value in given.items() if value is not None}
        with self._ctx.database.write() as session:
            row = trial_service.update(session, self._ctx, trial_id, changes)
            return trials.records(session, [row])[0]

    def find_measurement(self, plan_digest: str, fingerprint: str) -> StoredMeasurement | None:
        with self._ctx.database.read() as session:
            row = trials.find_valid(session, plan_digest, fingerprint)
            found = trials.measurement_of(row) if row else None
            return found if found is not None and found.verdict is Verdict.VALID else None

    def find_quality(self, arch_digest: str, key: str) -> QualityResult | None:
        with self._ctx.database.read() as session:
            row = session.get(QualityRow, (arch_digest, key))
            return QualityResult.model_validate(row.body) if row else None

    def record_quality(self, arch_digest: str, key: str, quality: QualityResult) -> None:
        body = quality.model_dump(mode="json")
        with self._ctx.database.write() as session:
            session.merge(QualityRow(arch_digest=arch_digest, key=key, body=body, created_at=self._ctx.now()))

    def attach_measurement(self, trial_id: str, group: DeviceGroup, found: StoredMeasurement) -> None:
        with self._ctx.database.write() as session:
            trials.attach_measurement(session, self._ctx.now(), trial_id, group, found)
            emit(session, self._ctx.now(), self._study_id, "measurement_reused", trial_id=trial_id,
                 target=group.target, device_id=group.device_id or found.device_id)  # fmt: skip

    def submit(self, trial_id: str, group: DeviceGroup, job: MeasureJob, avoid: str = "") -> str:
        with self._ctx.database.write() as session:
            row = queue.submit_to(
                session, self._ctx, study_id=self._study_id, trial_id=trial_id, group=group, job=job, avoid=avoid
            )
            return row.id

    def open_jobs(self) -> list[JobRecord]:
        """Trainings and measurements of trained programs are left out: the study ends without waiting for them."""
        return self._jobs(JobRow.study_id == self._study_id, JobRow.form != "trained", JobRow.state.in_(jobs.OPEN))

    def failed_jobs(self, trial_id: str) -> list[JobRecord]:
        return self._jobs(JobRow.trial_id == trial_id, JobRow.state == JobState.FAILED)

    def _jobs(self, *conditions: jobs.Condition) -> list[JobRecord]:
        query = select(JobRow).where(JobRow.kind == "measure", *conditions).order_by(JobRow.created_at, JobRow.id)
        with self._ctx.database.read() as session:
            return [jobs.record_of(row) for row in session.scalars(query)]

    def put_artifact(self, path: Path, media_type: str) -> str:
        """A full disk is not the candidate's fault, so it raises OSError instead of a HilnasError: this run ends, and
        the study can be resumed once there is room."""
        try:
            sha256 = self._ctx.artifacts.put_file(path)
        except DiskFull as error:
            raise OSError(errno.ENOSPC, str(error)) from error
        with self._ctx.database.read() as session:
            if session.get(ArtifactRow, sha256) is not None:
                return sha256
        num_bytes = self._ctx.artifacts.path(sha256).stat().st_size
        with self._ctx.database.write() as session:
            record(session, sha256, num_bytes, media_type, self._ctx.now())
        return sha256

    def emit(self, event: str, **fields: Any) -> None:
        with self._ctx.database.write() as session:
            emit(session, self._ctx.now(), self._study_id, event, **fields)

    def set_reference_point(self, point: dict[str, float]) -> None:
        with self._ctx.database.write() as session:
            self._row(session).reference_point = dict(point)

    def finish(self, state: StudyState, reason: str) -> None:
        """Ends the study, unless this run was told to stop: then the study stays as its user left it, and one that was
        interrupted by a shutdown continues at the next start."""
        with self._ctx.database.write() as session:
            row = self._row(session)
            if self._is_current(row) and (state == StudyState.FINISHED or not self._closing.is_set()):
                study_service.end(session, self._ctx, row, state, reason)

    def stop_requested(self) -> bool:
        with self._ctx.database.read() as session:
            return self._closing.is_set() or not self._is_current(self._row(session))

    def wait(self, seconds: float) -> None:
        if not self._closing.is_set():
            self._seen = self._ctx.hub.wait(self._topic, self._seen, seconds)

    def _row(self, session: Session) -> StudyRow:
        return studies.get_or_raise(session, self._study_id)

    def _is_current(self, row: StudyRow) -> bool:
        return row.state == StudyState.RUNNING and row.generation == self._generation
