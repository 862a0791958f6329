"""The most promising candidates, judged again at a higher fidelity before any of them is confirmed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from contracts.study import QualityResult, StudySpec, TrialRecord
from nas.front import Front, front_of
from nas.objectives import needs_quality, over_budget
from nas.quality.contract import estimator
from nas.store import StudyStore
from nas.workspace import Workspace

MAX_JUDGING = 2  # at once


class Finalists:
    """``update`` stores what changed of a trial. The front of the search keeps its own fidelity: finalists have a
    second quality beside it, by which winners are chosen among them."""

    def __init__(
        self, spec: StudySpec, store: StudyStore, workspace: Workspace, update: Callable[..., TrialRecord]
    ) -> None:
        self.spec, self.store, self.workspace, self.update = spec, store, workspace, update
        self.count = spec.quality.finalists.count if spec.quality.finalists and needs_quality(spec) else 0
        self.judgements: dict[str, Future[dict[str, Any]]] = {}  # by trial
        self.failed: set[str] = set()

    def of(self, front: Front[TrialRecord]) -> list[TrialRecord]:
        return list(front.winners[: self.count])

    def judged(self, front: Front[TrialRecord]) -> bool:
        """Advances every judgement; True when none is left."""
        waiting = [t for t in self.of(front) if t.final_quality is None and t.id not in self.failed]
        for trial in waiting[:MAX_JUDGING]:
            self._advance(trial)
        return not waiting

    def winners(self, front: Front[TrialRecord]) -> list[str]:
        """Ids in the order in which they are confirmed: the front of the finalists by their second quality, its knee
        first; without finalists, the front as the search left it."""
        if not self.count:
            return [trial.id for trial in front.winners]
        finals = [_with_final_quality(trial) for trial in self.of(front) if trial.final_quality is not None]
        within = [trial for trial in finals if not over_budget(trial.values, self.spec)]
        return [trial.id for trial in front_of(within, self.spec).winners]

    def _advance(self, trial: TrialRecord) -> None:
        judge = self.spec.quality.final
        key = estimator(judge).key
        if trial.id not in self.judgements:
            known = self.store.find_quality(trial.arch.digest, key)
            self.judgements[trial.id] = _done(known) if known else self.workspace.start_quality(judge, trial.arch)
            self.store.emit("finalist_started", trial_id=trial.id, number=trial.number)
        future = self.judgements[trial.id]
        if not future.done():
            return
        del self.judgements[trial.id]
        try:
            result = QualityResult(**future.result())
        except Exception as error:  # a training process may die of anything; the others go on
            self.failed.add(trial.id)
            self.store.emit("finalist_failed", trial_id=trial.id, reason=f"{type(error).__name__}: {error}")
            return
        self.store.record_quality(trial.arch_digest, key, result)
        self.update(trial, final_quality=result)
        self.store.emit("finalist_judged", trial_id=trial.id, number=trial.number)


def _with_final_quality(trial: TrialRecord) -> TrialRecord:
    final = trial.final_quality
    assert final is not None
    return trial.model_copy(update={"quality": final, "values": {**trial.values, final.metric: final.score}})


def _done(result: QualityResult) -> Future[dict[str, Any]]:
    future: Future[dict[str, Any]] = Future()
    future.set_result(result.model_dump())
    return future
