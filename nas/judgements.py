"""Judgements that run: started once, taken from the store where they are known, recorded when they end."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from contracts.study import QualityResult, QualitySpec, TrialRecord
from foundation.errors import HilnasError
from nas.quality.contract import estimator
from nas.store import StudyStore
from nas.workspace import Workspace


class Judgements:
    """Of one estimator with its options."""

    def __init__(self, judge: QualitySpec, store: StudyStore, workspace: Workspace) -> None:
        self.judge, self.store, self.workspace, self.key = judge, store, workspace, estimator(judge).key
        self._running: dict[str, Future[dict[str, Any]]] = {}  # by trial

    @property
    def full(self) -> bool:
        """As many run as may at once."""
        return len(self._running) >= self.judge.at_once

    def runs(self, trial: TrialRecord) -> bool:
        return trial.id in self._running

    def start(self, trial: TrialRecord) -> None:
        known = self.store.find_quality(trial.arch.digest, self.key)
        if known is None:
            self._running[trial.id] = self.workspace.start_quality(self.judge, trial.arch)
        else:
            self._running[trial.id] = Future()
            self._running[trial.id].set_result(known.model_dump())

    def take(self, trial: TrialRecord) -> QualityResult | None:
        """The result, stored; None while it runs. One that a restart lost is started again.

        Raises HilnasError with the reason of a judgement that failed.
        """
        if not self.runs(trial):
            self.start(trial)
        if not self._running[trial.id].done():
            return None
        future = self._running.pop(trial.id)
        try:
            result = QualityResult(**future.result())
        except Exception as error:  # a training process may die of anything
            raise HilnasError(f"quality estimate failed: {type(error).__name__}: {error}") from error
        self.store.record_quality(trial.arch_digest, self.key, result)
        return result
