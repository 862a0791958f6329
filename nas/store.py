"""The storage interface of a study. The server implements it over its tables, which are the source of truth."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

from contracts.device import DeviceFacts
from contracts.job import JobRecord, MeasureJob
from contracts.states import StudyState, TrialState
from contracts.study import QualityResult, StoredMeasurement, StudyRecord, StudySpec, TrialFacts, TrialRecord
from nas.targets import DeviceGroup
from search_space.arch import ArchConfig


class StudyStore(Protocol):
    """Bound to one study. Every method is one transaction; all survive ``kill -9`` of the caller right after."""

    def study(self) -> StudyRecord: ...

    def trials(
        self, states: Collection[TrialState] | None = None, ids: Collection[str] | None = None
    ) -> list[TrialRecord]:
        """Trials of this study in number order, measurements included (raw events left out): all, or those in these
        states, or those with these ids."""
        ...

    def other_study(self, study_id: str) -> tuple[StudySpec, list[TrialFacts]] | None:
        """Another study and its trials, measurements included; None if there is none."""
        ...

    def devices(self) -> dict[str, DeviceFacts]:
        """Device id -> facts of the enrolled devices that measure and are not draining."""
        ...

    def add_trial(
        self, assignment: dict[str, Any], arch: ArchConfig, sampler_attrs: dict[str, Any] | None = None
    ) -> TrialRecord:
        """A new trial in state PROPOSED with the next number. ``sampler_attrs`` are the sampler's own, kept for it."""
        ...

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
        """Changes the given fields; ``artifacts`` are added to existing ones. Raises a HilnasError for a move that
        ``TRIAL_MOVES`` does not allow; setting the same state again is not a move."""
        ...

    def find_measurement(self, plan_digest: str, fingerprint: str) -> StoredMeasurement | None:
        """A valid row of the same plan on a device with the same fingerprint, from any study, for reuse."""
        ...

    def find_quality(self, arch_digest: str, key: str) -> QualityResult | None:
        """The stored quality of this architecture under this estimator key, from any study."""
        ...

    def record_quality(self, arch_digest: str, key: str, quality: QualityResult) -> None: ...

    def attach_measurement(self, trial_id: str, group: DeviceGroup, found: StoredMeasurement) -> None:
        """Gives the trial a reused row, as that of ``group``."""
        ...

    def submit(self, trial_id: str, group: DeviceGroup, job: MeasureJob, avoid: str = "") -> str:
        """Queues a job once for the group; the next free device of the group takes it. ``avoid`` is a device whose peer
        should take it instead. Submitting the same plan for the same trial and group returns the first job's id."""
        ...

    def open_jobs(self) -> list[JobRecord]:
        """Measurement jobs of this study's search that are queued or leased."""
        ...

    def failed_jobs(self, trial_id: str) -> list[JobRecord]:
        """Measurement jobs of a trial that ended FAILED, in queueing order."""
        ...

    def put_artifact(self, path: Path, media_type: str) -> str:
        """Stores a file's content and returns its sha256. Storing the same content again costs nothing."""
        ...

    def emit(self, event: str, **fields: Any) -> None:
        """A past-tense event for SSE and the log."""
        ...

    def set_reference_point(self, point: dict[str, float]) -> None: ...

    def finish(self, state: StudyState, reason: str) -> None: ...

    def stop_requested(self) -> bool: ...

    def wait(self, seconds: float) -> None:
        """Sleeps until the study changed (a result, a stop) or the time is over."""
        ...
