"""The life of a candidate, top to bottom: propose, gate, prepare, measure, compare, judge, complete, confirm.

``run_study`` is called by the coordinator on a thread of its own. It keeps no state outside the store: killed at any
point and started again, it continues from the stored trials.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contracts.job import MeasureJob
from contracts.measurement import SPOILED, Verdict
from contracts.metrics import MetricKey
from contracts.plan import Plan
from contracts.states import OPEN_TRIALS, StudyState, TrialState
from contracts.study import StoredMeasurement, TrialFacts, TrialRecord
from foundation.errors import HilnasError
from foundation.measurement_lock import MeasurementLock
from nas.confirmation import MAX_SESSIONS, Confirmation
from nas.feasibility import impossible_budget, nothing_feasible
from nas.finalists import Finalists
from nas.front import front_of, reference_point_of, worth_judging
from nas.history import OPEN, UNMEASURED, History, Plateau
from nas.judgements import Judgements
from nas.objectives import (
    free_costs,
    known_values,
    needs_quality,
    objective_values,
    over_budget,
)  # fmt: skip
from nas.plans import Plans, suspect_of
from nas.samplers.base import Proposal
from nas.samplers.optuna_sampler import OptunaSampler
from nas.starters import starters
from nas.store import StudyStore
from nas.targets import DeviceGroup, unserved
from nas.warm_start import told_earlier
from nas.workspace import Workspace
from search_space.space import space

MAX_GATED_PER_TRIAL = 20  # proposals over a free budget cost nothing, but a search that finds no others must end
POLL_S = 1.0


def run_study(store: StudyStore, workspace: Workspace) -> None:
    """Runs the study until it ends or a stop is requested."""
    Study(store, workspace).run()


class Study:
    def __init__(self, store: StudyStore, workspace: Workspace) -> None:
        self.store, self.workspace = store, workspace
        self.spec = store.study().spec
        self.space = space(self.spec.space, self.spec.space_options)
        self.sampler = OptunaSampler(self.spec, self.space)
        self.history, self.plateau = History(), Plateau(self.spec)
        self.starters = starters(self.spec, self.space)
        self.judgements = Judgements(self.spec.quality, store, workspace) if needs_quality(self.spec) else None
        self.attempts: dict[tuple[str, DeviceGroup], int] = {}
        self.plans = Plans(self.spec, store, workspace)
        self.finalists = Finalists(self.spec, store, workspace, self.update)
        self.confirmation = Confirmation(self.spec, store, workspace, self.plans, self.update)
        self.exhausted = ""  # why nothing more is proposed
        self.reference: dict[str, float] = {}  # of the hypervolume, as stored
        self.warmed_for: list[DeviceGroup] | None = None if self.spec.warm_start else []

    def run(self) -> None:
        if sentence := impossible_budget(self.spec, self.space):
            self.store.finish(StudyState.FINISHED, sentence)
            return
        self.load()
        while not self.store.stop_requested():
            moved = self.tick()
            if not moved and self.finished():
                return
            if not moved:
                self.store.wait(POLL_S)
        self.store.finish(StudyState.STOPPED, "stopped on request; what was measured is kept")

    def load(self) -> None:
        """All stored trials, once; from here on only open ones are read again."""
        for trial in self.store.trials():
            self.note(trial)
        self.reference = self.store.study().reference_point
        self.warm()
        complete = self.history.within([TrialState.COMPLETE])
        for trial in sorted(complete, key=lambda one: (one.updated_at is not None, one.updated_at, one.number)):
            self.plateau.add(trial.values, self.reference)

    def warm(self) -> None:
        """Tells the sampler what other studies know, for the devices that this one measures on; again where these
        changed."""
        groups = self.plans.groups() if self.spec.warm_start else []
        if groups == self.warmed_for:
            return
        self.warmed_for, told = groups, list[TrialFacts]()
        for study_id in self.spec.warm_start:
            if (found := self.store.other_study(study_id)) is not None:
                told += told_earlier(self.spec, self.space, groups, *found)
        self.sampler.tell_earlier(told)

    def tick(self) -> bool:
        """One step of every open trial; True when something changed."""
        for trial in self.store.trials(OPEN):
            self.note(trial)
        moved = [self.advance(trial) for trial in self.history.within(OPEN)]
        return any([*moved, self.judge_best(), self.propose()])

    def note(self, trial: TrialRecord) -> None:
        if self.history.note(trial):
            self.sampler.tell(trial)

    def update(self, trial: TrialRecord, **changes: Any) -> TrialRecord:
        """Stores what changed of a trial; the history and the sampler know it at once."""
        changed = self.store.update_trial(trial.id, **changes)
        self.note(changed)
        return changed

    # --- one trial, one step ---------------------------------------------------------------------------------------

    def advance(self, trial: TrialRecord) -> bool:
        """Moves a trial one step if it can; True when something changed."""
        steps = {
            TrialState.PROPOSED: self.gate,
            TrialState.PREPARING: self.prepare,
            TrialState.MEASURING: self.collect,
            TrialState.MEASURED: self.complete_unjudged,
            TrialState.JUDGING: self.collect_judgement,
        }
        step = steps.get(trial.state)
        try:
            return step(trial) if step else False
        except HilnasError as error:
            self.update(trial, state=TrialState.FAILED, reason=str(error))
            self.store.emit("trial_failed", trial_id=trial.id, reason=str(error))
            return True

    def propose(self) -> bool:
        """Samples ahead of the devices and of the judgements, never a known candidate: what is asked too early is asked
        without what the open ones will teach."""
        history, spec = self.history, self.spec
        num_gated = history.count(TrialState.GATED)
        self.exhausted = self.exhausted or self.reason_to_end(num_gated)
        ahead = spec.queue_ahead + max(1, len(self.store.devices()))
        full = history.count(*UNMEASURED) >= ahead or self.num_unjudged() >= spec.unjudged_ahead
        if self.exhausted or full or len(history) - num_gated >= spec.max_trials:
            return False
        proposal = self.next_starter() or self.sampled()
        if proposal is None:
            self.exhausted = "every candidate of the space is known"
            return False
        arch = self.space.decode(proposal.assignment)
        trial = self.store.add_trial(proposal.assignment, arch, proposal.attrs)
        self.note(trial)
        self.store.emit("trial_proposed", trial_id=trial.id, number=trial.number, layout=arch.layout)
        return True

    def sampled(self) -> Proposal | None:
        self.warm()
        with MeasurementLock().shared():
            return self.sampler.ask()

    def next_starter(self) -> Proposal | None:
        """Known architectures come before what the sampler proposes."""
        while self.starters:
            name, arch = self.starters.pop(0)
            if not self.history.knows(arch.digest):
                return Proposal(self.space.encode(arch), {"name": name})
        return None

    def reason_to_end(self, num_gated: int) -> str:
        if num_gated >= MAX_GATED_PER_TRIAL * self.spec.max_trials:
            return f"{num_gated} candidates were over a budget that needs no device"
        if self.judgements and self.spec.max_quality is not None and not self.room_to_judge():
            return f"{self.spec.max_quality} candidates were judged"
        return self.plateau.sentence if self.plateau.reached else ""

    def num_unjudged(self) -> int:
        """Candidates whose quality is still to come."""
        return self.history.count(TrialState.MEASURED, TrialState.JUDGING) if self.judgements else 0

    def gate(self, trial: TrialRecord) -> bool:
        """Free budgets first: a candidate over one never reaches a device."""
        costs = free_costs(trial.arch, self.spec)
        if sentence := over_budget(costs, self.spec):
            self.update(trial, state=TrialState.GATED, reason=sentence, costs=costs)
            return True
        self.workspace.library.start(self.plans.blocks_of(trial.arch))
        self.update(trial, state=TrialState.PREPARING, costs=costs)
        return True

    def prepare(self, trial: TrialRecord) -> bool:
        """Once all blocks are compiled, sends the plan (a few kilobytes) to every group of devices."""
        specs = self.plans.blocks_of(trial.arch)
        self.workspace.library.start(specs)
        groups = self.plans.groups()
        if not groups or unserved(self.spec, groups) or not self.workspace.library.ready(specs):
            return False
        plans = self.plans.plans_of(trial.arch, groups)
        blocks = [step.block for plan in plans.values() for step in plan.chain]
        self.update(trial, state=TrialState.MEASURING, blocks=blocks)
        self.measure_on(trial, groups, plans)
        return True

    def measure_on(self, trial: TrialRecord, groups: list[DeviceGroup], plans: Mapping[str, Plan]) -> None:
        """If two targets need the same measurement, the second waits and later reuses the first one's row."""
        submitted = set()
        for group in groups:
            job = self.plans.job_of(self.plans.plan_on(plans, group))
            where = (job.plan.digest, group.fingerprint, group.device_id)
            if where not in submitted:
                self.measure_once(trial, group, job)
            submitted.add(where)

    def measure_once(self, trial: TrialRecord, group: DeviceGroup, job: MeasureJob, avoid: str = "") -> None:
        """Reuses a row of the same plan and fingerprint from another target or study, if there is one."""
        found = self.store.find_measurement(job.plan.digest, group.fingerprint)
        if found is not None:
            self.store.attach_measurement(trial.id, group, found)
        else:
            self.store.submit(trial.id, group, job, avoid)

    def collect(self, trial: TrialRecord) -> bool:
        """The trial is measured once every group of every target has a valid row."""
        if any(job.trial_id == trial.id for job in self.store.open_jobs()):
            return False
        if failed := [job for job in self.store.failed_jobs(trial.id) if job.form == "composed"]:
            raise HilnasError(f"measurement failed: {failed[-1].error}")
        groups = self.plans.groups()
        if not groups or unserved(self.spec, groups):
            return False
        rows = {group: group.row(trial.measurements) for group in groups}
        missing = [group for group, row in rows.items() if row is None]
        if missing:  # killed between the move to MEASURING and the queueing, or a device that enrolled later
            self.measure_on(trial, missing, self.plans.plans_of(trial.arch, missing))
            return True
        invalid = {group: row for group, row in rows.items() if row and row.verdict is not Verdict.VALID}
        if invalid:
            return self.measure_again(trial, invalid)
        self.require_device_values(trial)
        sentence = over_budget(known_values(trial), self.spec)
        state = TrialState.INFEASIBLE if sentence else TrialState.MEASURED
        self.update(trial, state=state, reason=sentence)
        self.store.emit("trial_measured", trial_id=trial.id, number=trial.number, state=str(state))
        return True

    def measure_again(self, trial: TrialRecord, invalid: dict[DeviceGroup, StoredMeasurement]) -> bool:
        """Requests another session for rows that the machine spoiled, on a peer if the device itself is in doubt. A row
        that the candidate itself spoiled fails the trial."""
        for group, row in invalid.items():
            if row.verdict not in SPOILED or self.next_attempt(trial, group) >= MAX_SESSIONS:
                raise HilnasError(f"verdict {row.verdict}: {row.reason or 'no valid row'}")
        plans = self.plans.plans_of(trial.arch, invalid)
        for group, row in invalid.items():
            attempt = self.attempts[trial.id, group]
            job = self.plans.job_of(self.plans.plan_on(plans, group), attempt=attempt)
            self.measure_once(trial, group, job, suspect_of(row))
            self.store.emit("trial_measured_again", trial_id=trial.id, number=trial.number, attempt=attempt)
        return True

    def next_attempt(self, trial: TrialRecord, group: DeviceGroup) -> int:
        key = (trial.id, group)
        self.attempts[key] = self.attempts.get(key, 0) + 1
        return self.attempts[key]

    def require_device_values(self, trial: TrialRecord) -> None:
        known = known_values(trial)
        for objective in self.spec.all_objectives:
            if MetricKey.parse(objective.metric).metric.source == "device" and objective.metric not in known:
                raise HilnasError(f"the {self.spec.protocol} protocol does not measure {objective.metric}")

    def complete_unjudged(self, trial: TrialRecord) -> bool:
        """Without a quality objective, a trial is complete once it is measured."""
        if self.judgements:
            return False
        return self.complete(trial)

    def complete(self, trial: TrialRecord) -> bool:
        values = objective_values(trial, self.spec)
        if values is None:
            known = known_values(trial)
            unknown = [one.metric for one in self.spec.all_objectives if one.metric not in known]
            raise HilnasError(f"no finite value of {unknown[0]} is known of this candidate")
        self.update(trial, state=TrialState.COMPLETE, values=values)
        self.update_reference(values)
        self.store.emit("trial_completed", trial_id=trial.id, number=trial.number, values=values)
        return True

    # --- quality: expensive, so only for candidates that may still win -----------------------------------------------

    def room_to_judge(self) -> bool:
        judged = self.history.num_judged + self.history.count(TrialState.JUDGING)
        return self.spec.max_quality is None or judged < self.spec.max_quality

    def judge_best(self) -> bool:
        """Starts judging the most promising measured candidate; marks those that cannot win as dominated."""
        if self.judgements is None or self.judgements.full or not self.may_judge():
            return False
        states = [TrialState.MEASURED, *([TrialState.DOMINATED] if self.history.judged_since else [])]
        judged = [t for t in self.history.within((TrialState.COMPLETE, TrialState.INFEASIBLE)) if t.quality is not None]
        promising, beaten = worth_judging([*judged, *self.history.within(states)], self.spec)
        for trial, sentence in beaten:
            self.update(trial, state=TrialState.DOMINATED, reason=sentence)
            self.store.emit("trial_dominated", trial_id=trial.id, number=trial.number)
        if not promising:
            self.history.judged_since = False  # every dominated one was looked at in the light of the last quality
            return bool(beaten)
        trial = self.update(promising[0], state=TrialState.JUDGING, reason="")
        self.judgements.start(trial)
        return True

    def may_judge(self) -> bool:
        """Whether something waits, or a new quality may have changed who is dominated."""
        waits = self.history.count(TrialState.MEASURED) > 0 or self.history.judged_since
        return waits and self.room_to_judge()

    def collect_judgement(self, trial: TrialRecord) -> bool:
        assert self.judgements is not None
        result = self.judgements.take(trial)
        if result is None:
            return False
        trial = self.update(trial, quality=result)
        if sentence := over_budget(known_values(trial), self.spec):
            self.update(trial, state=TrialState.INFEASIBLE, reason=sentence)
            return True
        return self.complete(trial)

    # --- the end -----------------------------------------------------------------------------------------------------

    def finished(self) -> bool:
        """When no trial is open: judges finalists again, confirms the winners, then ends the study with a reason."""
        if self.history.count(*OPEN_TRIALS):
            return False
        trials = self.history.all()
        if sentence := nothing_feasible(trials, self.spec):
            self.store.finish(StudyState.FINISHED, sentence)
            return True
        front = front_of(trials, self.spec)
        if not self.finalists.judged(front):
            return False
        winners = self.finalists.winners(front)[: self.spec.confirm]
        if not self.confirmation.confirmed(self.store.trials(ids=winners) if winners else []):
            return False
        counts = f"{self.history.count(TrialState.COMPLETE)} candidates complete, {len(front.members)} on the front"
        early = len(self.history) - self.history.count(TrialState.GATED) < self.spec.max_trials
        ended = f"; {self.exhausted}" if self.exhausted and early else ""
        self.store.finish(StudyState.FINISHED, f"{counts}{ended}")
        return True

    def update_reference(self, values: dict[str, float]) -> None:
        """The hypervolume's reference point is fixed once, from the first completed candidates, and stored. From then
        on the plateau is counted; it begins with all that there are."""
        if self.reference:
            self.plateau.add(values, self.reference)
            return
        complete = self.history.within([TrialState.COMPLETE])
        self.reference = reference_point_of(complete, self.spec)
        if self.reference:
            self.store.set_reference_point(self.reference)
            for trial in complete:
                self.plateau.add(trial.values, self.reference)
