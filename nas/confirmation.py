"""Winners as one-piece programs, measured beside their chains of blocks."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from contracts.measurement import Verdict
from contracts.plan import Check
from contracts.study import QualityResult, StudySpec, TrialRecord
from nas.export.one_piece import one_piece_chain
from nas.plans import Plans, suspect_of
from nas.quality.base import CandidateEstimator
from nas.quality.contract import estimator
from nas.store import StudyStore
from nas.targets import DeviceGroup
from nas.workspace import Workspace

MAX_SESSIONS = 4  # per trial and group of devices, when the machine keeps spoiling them


class Confirmation:
    """``update`` stores what changed of a trial."""

    def __init__(
        self, spec: StudySpec, store: StudyStore, workspace: Workspace, plans: Plans,
        update: Callable[..., TrialRecord],
    ) -> None:  # fmt: skip
        self.spec, self.store, self.workspace, self.plans, self.update = spec, store, workspace, plans, update
        self.one_pieces: dict[tuple[str, str], Future[dict[str, Any]]] = {}  # by trial and backend
        self.attempts: dict[tuple[str, DeviceGroup], int] = {}

    def confirmed(self, winners: list[TrialRecord]) -> bool:
        """Re-measures winners as one-piece programs beside their composed form; True when all are done."""
        if self.store.open_jobs():
            return False
        done = [self.confirm_one(trial) for trial in winners]  # a list, so that every winner advances
        return all(done)

    def confirm_one(self, trial: TrialRecord) -> bool:
        """Exports and measures one winner, once per backend; True when nothing is left to do."""
        waiting: dict[str, list[DeviceGroup]] = {}
        for group in self.unconfirmed(trial):
            waiting.setdefault(self.spec.backend_of(group.target), []).append(group)
        done = [self.confirm_for(trial, backend, groups) for backend, groups in waiting.items()]
        return all(done)

    def confirm_for(self, trial: TrialRecord, backend: str, groups: list[DeviceGroup]) -> bool:
        key = (trial.id, backend)
        if key not in self.one_pieces:
            self.one_pieces[key] = self.start_one_piece(trial, backend)
            self.store.emit("one_piece_started", trial_id=trial.id, number=trial.number)
        if not self.one_pieces[key].done():
            return False
        try:
            exported = self.one_pieces[key].result()
        except Exception as error:  # exporting and judging a program may die of anything; the study ends all the same
            self.store.emit("one_piece_failed", trial_id=trial.id, reason=str(error))
            return True
        self.measure_one_piece(trial, backend, exported, groups)
        return False

    def start_one_piece(self, trial: TrialRecord, backend: str) -> Future[dict[str, Any]]:
        """With the weights that were judged last, where the candidate itself was."""
        spec, arch = self.spec, trial.arch
        if trial.quality is not None and isinstance(estimator(spec.quality), CandidateEstimator):
            judge = spec.quality.final if trial.final_quality else spec.quality
            return self.workspace.start_judged_piece(judge, arch, spec.quantization, backend, spec.cache_dtype)
        return self.workspace.start_one_piece(arch, spec.quantization, backend)

    def keep_one_piece(self, trial: TrialRecord, backend: str, exported: dict[str, Any]) -> None:
        """The program, and where it has weights of its own, those and its quality as quantized."""
        if "weights" not in exported:
            self.update(trial, artifacts={self.role_of_one_piece(backend): exported["digest"]})
            return
        weights = self.store.put_artifact(Path(exported["weights"]), "application/x-tar")
        artifacts = {self.role_of_one_piece(backend): exported["digest"], "weights": weights}
        self.update(trial, artifacts=artifacts, program_quality=QualityResult(**exported["quality"]))

    def unconfirmed(self, trial: TrialRecord) -> list[DeviceGroup]:
        """Groups without a one-piece row, or whose only row is from a device that its peers contradict."""
        failed = [job for job in self.store.failed_jobs(trial.id) if job.form == "one_piece"]
        waiting = []
        for group in self.plans.groups():
            row = group.row(trial.confirmed)
            if any(group.queued_as(job) for job in failed) or group.row(trial.measurements) is None:
                continue
            doubted = row is not None and row.verdict is Verdict.UNLIKE_TWIN
            if row is None or (doubted and self.attempts.get((trial.id, group), 0) < MAX_SESSIONS):
                waiting.append(group)
        return waiting

    def measure_one_piece(
        self, trial: TrialRecord, backend: str, exported: dict[str, Any], groups: list[DeviceGroup]
    ) -> None:
        """Queues the one-piece program beside its composed form: alternated in one session, so that they compare."""
        digest = exported["digest"]
        composed = self.plans.plan_of(trial.arch, backend).model_copy(update={"check": None})
        plan = composed.model_copy(
            update={
                "chain": one_piece_chain(trial.arch, digest), "id": f"{composed.id}-one-piece",
                "check": Check(**exported["check"]),
            }
        )  # fmt: skip
        self.plans.publish(composed)
        self.plans.publish(plan)
        self.keep_one_piece(trial, backend, exported)
        for group in groups:
            row = group.row(trial.confirmed)
            key = (trial.id, group)
            self.attempts[key] = self.attempts.get(key, 0) + bool(row)
            on_group = {backend: plan}, {backend: composed}
            both = dict(zip(("plan", "beside"), (self.plans.plan_on(one, group) for one in on_group), strict=True))
            job = self.plans.job_of(**both, form="one_piece", attempt=self.attempts[key])
            self.store.submit(trial.id, group, job, avoid=suspect_of(row))
    def role_of_one_piece(self, backend: str) -> str:
        """With several backends, only the study's own has the plain name."""
        own = backend == self.spec.backend or len(self.spec.backends) == 1
        return "one_piece" if own else f"one_piece_{backend}"
