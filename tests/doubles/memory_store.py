"""``StudyStore`` in dictionaries, for tests of the study loop. It passes the same contract as the server's store
(``tests/contract/test_study_store.py``)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contracts.device import DeviceFacts
from contracts.job import JobRecord, MeasureJob
from contracts.measurement import Estimate, Measurement, Verdict
from contracts.states import TRIAL_MOVES, JobState, StudyState, TrialState
from contracts.study import QualityResult, StoredMeasurement, StudyRecord, StudySpec, TrialFacts, TrialRecord
from foundation.errors import HilnasError
from foundation.files import file_digest
from nas.targets import DeviceGroup
from search_space.arch import ArchConfig
from tests.server import samples

DEVICES = {"device-1": DeviceFacts.model_validate(samples.facts())}


class Killed(BaseException):
    """kill -9: nothing in the loop may catch it."""


@dataclass
class Queued:
    """A job with what its devices need to know of it."""

    record: JobRecord
    job: MeasureJob
    group: DeviceGroup
    avoid: str

    def end(self, state: JobState, error: str = "") -> None:
        self.record = self.record.model_copy(update={"state": state, "error": error})


class MemoryStore:
    """``StudyStore`` in dictionaries. Devices answer a job when the study waits for them."""

    def __init__(
        self, spec: StudySpec, answer: Callable[[MeasureJob, int], Verdict] = lambda *_: Verdict.VALID
    ) -> None:
        self.record = StudyRecord(id="study-1", spec=spec, state=StudyState.RUNNING)
        self.rows: dict[str, TrialRecord] = {}
        self.jobs: dict[str, Queued] = {}  # submit key -> job
        self.qualities: dict[tuple[str, str], QualityResult] = {}
        self.measured: list[tuple[str, str, Measurement]] = []  # (fingerprint, device, row), of any study
        self.others: dict[str, MemoryStore] = {}  # other studies by id
        self.num_rows = 0
        self.events: list[str] = []
        self.states: list[tuple[int, TrialState]] = []
        self.answer, self.num_waits, self.stopped = answer, 0, False
        self.devices_now, self.calls_left = dict(DEVICES), 10**9

    def _call(self) -> None:
        """Counts writes, so that a test can kill the loop after any of them."""
        if self.calls_left == 0:
            raise Killed
        self.calls_left -= 1

    def study(self) -> StudyRecord:
        return self.record

    def trials(
        self, states: Collection[TrialState] | None = None, ids: Collection[str] | None = None
    ) -> list[TrialRecord]:
        chosen = [t for t in self.rows.values() if states is None or t.state in states]
        return sorted((t for t in chosen if ids is None or t.id in ids), key=lambda trial: trial.number)

    def other_study(self, study_id: str) -> tuple[StudySpec, list[TrialFacts]] | None:
        other = self if study_id == self.record.id else self.others.get(study_id)
        return (other.record.spec, list(other.trials())) if other is not None else None

    def devices(self) -> dict[str, DeviceFacts]:
        return self.devices_now

    def add_trial(
        self, assignment: dict[str, Any], arch: ArchConfig, sampler_attrs: dict[str, Any] | None = None
    ) -> TrialRecord:
        self._call()
        number = len(self.rows)
        trial = TrialRecord(
            id=f"trial-{number}", study_id="study-1", number=number, state=TrialState.PROPOSED, assignment=assignment,
            arch=arch, arch_digest=arch.digest, sampler_attrs=sampler_attrs or {},
        )  # fmt: skip
        self.rows[trial.id] = trial
        return trial

    def update_trial(self, trial_id: str, **changes: Any) -> TrialRecord:
        self._call()
        trial = self.rows[trial_id]
        given = {key: value for key, value in changes.items() if value is not None}
        state = given.get("state", trial.state)
        if state != trial.state and state not in TRIAL_MOVES[trial.state]:
            raise HilnasError(f"trial {trial.number} is {trial.state} and cannot become {state}")
        if "artifacts" in given:
            given["artifacts"] = {**trial.artifacts, **given["artifacts"]}
        self.rows[trial_id] = trial.model_copy(update=given)
        self.states.append((trial.number, state))
        return self.rows[trial_id]

    def find_measurement(self, plan_digest: str, fingerprint: str) -> StoredMeasurement | None:
        for fingerprint_of, device_id, row in self.measured:
            if (row.plan_digest, fingerprint_of, row.verdict) == (plan_digest, fingerprint, Verdict.VALID):
                whose = {"fingerprint": fingerprint, "device_id": device_id}
                return StoredMeasurement.model_validate({**row.model_dump(), **whose})
        return None

    def find_quality(self, arch_digest: str, key: str) -> QualityResult | None:
        return self.qualities.get((arch_digest, key))

    def record_quality(self, arch_digest: str, key: str, quality: QualityResult) -> None:
        self._call()
        self.qualities[arch_digest, key] = quality

    def attach_measurement(self, trial_id: str, group: DeviceGroup, found: StoredMeasurement) -> None:
        self._call()
        self.keep(trial_id, "measurements", group, group.device_id or found.device_id, found)

    def keep(self, trial_id: str, role: str, group: DeviceGroup, device_id: str, row: Measurement) -> None:
        self.num_rows += 1
        fingerprint = self.devices_now[device_id].fingerprint if device_id in self.devices_now else group.fingerprint
        given = {"target": group.target, "fingerprint": fingerprint, "device_id": device_id,
                 "measured_at": datetime.fromtimestamp(self.num_rows, UTC)}  # fmt: skip
        stored = StoredMeasurement.model_validate({**row.model_dump(), **given})
        trial = self.rows[trial_id]
        before = getattr(trial, role).get(stored.key)
        if before is None or before.verdict is not Verdict.VALID or stored.verdict is Verdict.VALID:
            self.rows[trial_id] = trial.model_copy(update={role: {**getattr(trial, role), stored.key: stored}})

    def submit(self, trial_id: str, group: DeviceGroup, job: MeasureJob, avoid: str = "") -> str:
        self._call()
        key = f"{trial_id}|{group}|{job.form}|{job.plan.digest}|{job.attempt}"
        if key not in self.jobs:
            record = JobRecord(
                id=f"job-{len(self.jobs)}", trial_id=trial_id, device_id=group.device_id, form=job.form,
                pool=None if group.device_id else group.fingerprint, target=group.target, state=JobState.QUEUED,
            )  # fmt: skip
            self.jobs[key] = Queued(record, job, group, avoid)
        return self.jobs[key].record.id

    def open_jobs(self) -> list[JobRecord]:
        return [job.record for job in self.jobs.values() if job.record.state is JobState.QUEUED]

    def failed_jobs(self, trial_id: str) -> list[JobRecord]:
        failed = [job.record for job in self.jobs.values() if job.record.state is JobState.FAILED]
        return [job for job in failed if job.trial_id == trial_id]

    def put_artifact(self, path: Path, media_type: str) -> str:
        """Blocks of the workspace without torch are names without files."""
        return file_digest(path) if path.exists() else path.name

    def emit(self, event: str, **fields: Any) -> None:
        self.events.append(event)

    def set_reference_point(self, point: dict[str, float]) -> None:
        self._call()
        self.record = self.record.model_copy(update={"reference_point": point})

    def finish(self, state: StudyState, reason: str) -> None:
        self._call()
        if self.record.state is StudyState.RUNNING:
            self.record = self.record.model_copy(update={"state": state, "reason": reason})

    def stop_requested(self) -> bool:
        return self.stopped or self.record.state is not StudyState.RUNNING

    def wait(self, seconds: float) -> None:
        """The devices' turn. A loop that only waits hangs: that is a failure here."""
        self.num_waits += 1
        assert self.num_waits < 500, "the loop hangs"
        for job in self.jobs.values():
            if job.record.state is JobState.QUEUED:
                self.answer_job(job, self.taker(job), row_of(job.job, self.answer))

    def next_job(self, device_id: str) -> Queued:
        """The first queued job that this device may take."""
        fingerprint = self.devices_now[device_id].fingerprint
        queued = [job for job in self.jobs.values() if job.record.state is JobState.QUEUED]
        shared = lambda job: job.record.pool == fingerprint and job.avoid != device_id  # noqa: E731
        return next(job for job in queued if job.record.device_id == device_id or shared(job))

    def answer_job(self, job: Queued, device_id: str, row: Measurement, error: str = "") -> None:
        job.end(JobState.FAILED if error else JobState.DONE, error)
        if not error:
            role = "confirmed" if job.record.form == "one_piece" else "measurements"
            self.keep(job.record.trial_id, role, job.group, device_id, row)
            self.measured.append((self.devices_now[device_id].fingerprint, device_id, row))

    def taker(self, job: Queued) -> str:
        """The device that leases the job: the first of its group, but for the one it avoids."""
        equal = [one for one, facts in self.devices_now.items() if facts.fingerprint == job.group.fingerprint]
        return job.group.device_id or next((one for one in equal if one != job.avoid), equal[0])


def row_of(job: MeasureJob, answer: Callable[[MeasureJob, int], Verdict]) -> Measurement:
    """Time follows from the plan; what ``answer`` says is the verdict of this attempt."""
    ms = 1 + int(job.plan.digest[:4], 16) / 65_536
    estimate = Estimate(median=ms, low=ms, high=ms, unit="ms", num_samples=5)
    return Measurement(
        plan_digest=job.plan.digest, protocol="quick", verdict=answer(job, job.attempt), reason="as the test says",
        metrics={"decode_ms@256": estimate},
    )  # fmt: skip
