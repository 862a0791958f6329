"""A finished training: its result is stored, and its program is measured on every target of the study."""

from __future__ import annotations

from sqlalchemy.orm import Session

from contracts.job import JobResult, TrainResult
from contracts.plan import DEFAULT_BACKEND
from nas.jobs import trained_job
from nas.targets import groups_of, on_cores, on_target
from server.context import Context
from server.devices import repository as devices
from server.jobs import queue
from server.studies import repository as studies
from server.tables import JobRow
from server.trials import repository as trials


def training_finished(session: Session, ctx: Context, row: JobRow, result: JobResult) -> None:
    assert result.training is not None
    trials.add_training(session, ctx.now(), row, result.training)
    if result.training.measure is not None:
        _measure(session, ctx, row, result.training)


def _measure(session: Session, ctx: Context, row: JobRow, training: TrainResult) -> None:
    """Builds the plan here: a plan sent by one agent must not run on others. Only the program, its vocabulary size and
    its parity check come from the trainer, which compiles for the default backend."""
    assert training.measure is not None
    sent = training.measure.plan
    spec = studies.record_of(studies.get_or_raise(session, row.study_id)).spec
    arch = trials.arch_of(trials.get_or_raise(session, row.trial_id))
    job = trained_job(spec, arch, training.program, sent.vocab_size, sent.check)
    facts = devices.measuring_facts(session)
    for group in groups_of(spec, facts, DEFAULT_BACKEND):
        peers = [one for one in facts.values() if one.fingerprint == group.fingerprint]
        own = job.model_copy(update={"plan": on_cores(on_target(job.plan, spec, group.target), peers)})
        queue.submit_to(session, ctx, study_id=row.study_id, trial_id=row.trial_id, group=group, job=own)
