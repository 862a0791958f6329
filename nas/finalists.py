"""The most promising candidates, judged again at a higher fidelity before any of them is confirmed."""

from __future__ import annotations

from collections.abc import Callable

from contracts.study import StudySpec, TrialRecord
from foundation.errors import HilnasError
from nas.front import Front, front_of
from nas.judgements import Judgements
from nas.objectives import needs_quality, over_budget
from nas.store import StudyStore
from nas.workspace import Workspace


class Finalists:
    """``update`` stores what changed of a trial. The front of the search keeps its own fidelity: finalists have a
    second quality beside it, by which winners are chosen among them."""

    def __init__(
        self, spec: StudySpec, store: StudyStore, workspace: Workspace, update: Callable[..., TrialRecord]
    ) -> None:
        self.spec, self.store, self.update = spec, store, update
        self.count = spec.quality.finalists.count if spec.quality.finalists and needs_quality(spec) else 0
        self.judgements = Judgements(spec.quality.final, store, workspace) if self.count else None
        self.failed: set[str] = set()

    def of(self, front: Front[TrialRecord]) -> list[TrialRecord]:
        return list(front.winners[: self.count])

    def judged(self, front: Front[TrialRecord]) -> bool:
        """Advances every judgement; True when none is left."""
        waiting = [t for t in self.of(front) if t.final_quality is None and t.id not in self.failed]
        for trial in waiting[: self.spec.quality.at_once]:
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
        assert self.judgements is not None
        if not self.judgements.runs(trial):
            self.store.emit("finalist_started", trial_id=trial.id, number=trial.number)
        try:
            result = self.judgements.take(trial)
        except HilnasError as error:  # the others go on
            self.failed.add(trial.id)
            self.store.emit("finalist_failed", trial_id=trial.id, reason=str(error))
            return
        if result is not None:
            self.update(trial, final_quality=result)
            self.store.emit("finalist_judged", trial_id=trial.id, number=trial.number)


def _with_final_quality(trial: TrialRecord) -> TrialRecord:
    final = trial.final_quality
    assert final is not None
    return trial.model_copy(update={"quality": final, "values": {**trial.values, final.metric: final.score}})
