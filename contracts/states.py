"""The state machines of studies, trials and jobs: one table each, read by coordinator, API, dashboard and docs."""

from __future__ import annotations

from enum import StrEnum


class StudyState(StrEnum):
    RUNNING = "running"
    STOPPED = "stopped"
    FINISHED = "finished"
    FAILED = "failed"


class TrialState(StrEnum):
    PROPOSED = "proposed"  # by the sampler, nothing spent yet
    GATED = "gated"  # over a free budget (bytes, parameters): never reached a device
    PREPARING = "preparing"  # missing blocks are being compiled
    MEASURING = "measuring"  # queued on its devices
    MEASURED = "measured"  # every target has a valid row
    DOMINATED = "dominated"  # beaten even at the best quality still possible: not trained
    JUDGING = "judging"  # its quality is being estimated
    COMPLETE = "complete"  # all objectives known
    INFEASIBLE = "infeasible"  # over a budget, by its measurement or its quality
    FAILED = "failed"  # a stored reason, never a made-up number


class JobState(StrEnum):
    QUEUED = "queued"
    LEASED = "leased"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


TRIAL_MOVES: dict[TrialState, frozenset[TrialState]] = {
    TrialState.PROPOSED: frozenset({TrialState.GATED, TrialState.PREPARING, TrialState.FAILED}),
    TrialState.PREPARING: frozenset({TrialState.MEASURING, TrialState.FAILED}),
    TrialState.MEASURING: frozenset({TrialState.MEASURED, TrialState.INFEASIBLE, TrialState.FAILED}),
    TrialState.MEASURED: frozenset({TrialState.DOMINATED, TrialState.JUDGING, TrialState.COMPLETE, TrialState.FAILED}),
    TrialState.DOMINATED: frozenset({TrialState.JUDGING}),  # possible again when the front has moved
    TrialState.JUDGING: frozenset({TrialState.COMPLETE, TrialState.MEASURED, TrialState.INFEASIBLE, TrialState.FAILED}),
    TrialState.GATED: frozenset(),
    TrialState.COMPLETE: frozenset(),
    TrialState.INFEASIBLE: frozenset(),
    TrialState.FAILED: frozenset(),
}

JOB_MOVES: dict[JobState, frozenset[JobState]] = {
    # failed without a lease: its device was drained
    JobState.QUEUED: frozenset({JobState.LEASED, JobState.CANCELLED, JobState.FAILED}),
    # a lease that ran out goes back to the queue, or fails after the last attempt
    JobState.LEASED: frozenset({JobState.QUEUED, JobState.DONE, JobState.FAILED, JobState.CANCELLED}),
    JobState.DONE: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}

OPEN_TRIALS = frozenset({TrialState.PROPOSED, TrialState.PREPARING, TrialState.MEASURING, TrialState.JUDGING})
FINISHED_TRIALS = frozenset(
    {TrialState.GATED, TrialState.DOMINATED, TrialState.COMPLETE, TrialState.INFEASIBLE, TrialState.FAILED}
)
