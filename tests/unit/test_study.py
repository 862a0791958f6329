"""The study loop over a store in memory and a workspace without torch work: who is measured, who is judged, how it
ends, and that a loop started anew in any state goes on to the same end."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Future
from typing import Any

import pytest

from contracts.measurement import Verdict
from contracts.states import FINISHED_TRIALS, StudyState, TrialState
from contracts.study import QualityResult
from nas.confirmation import MAX_SESSIONS
from nas.feasibility import nearest_misses
from nas.study import Study
from search_space.arch import ArchConfig
from search_space.cost import closed_form
from search_space.parents import parent_arch
from tests.doubles.memory_store import DEVICES, Killed, MemoryStore
from tests.doubles.workspace import CHECK, FakeWorkspace, done, no_blocks, run, spec_of  # noqa: F401


def test_a_study_runs_to_its_end() -> None:
    store = MemoryStore(spec_of())
    assert run(store) == {TrialState.COMPLETE: 6}
    assert store.record.state is StudyState.FINISHED
    assert store.record.reason.startswith("6 candidates complete")
    assert set(store.record.reference_point) == {"decode_ms@256", "memory_bytes@256"}
    assert len({trial.arch_digest for trial in store.trials()}) == len(store.jobs) == 6


def test_free_budgets_gate_before_any_device() -> None:
    spec = spec_of(max_trials=4, budgets={"params": middle_of("params")})
    store, workspace = MemoryStore(spec), FakeWorkspace()
    states = run(store, workspace)
    assert states[TrialState.GATED] > 0
    assert states[TrialState.COMPLETE] == 4
    gated = [trial for trial in store.trials() if trial.state is TrialState.GATED]
    assert all("over the budget" in trial.reason and "params" in trial.reason for trial in gated)
    assert not {job.record.trial_id for job in store.jobs.values()} & {trial.id for trial in gated}
    assert [state for number, state in store.states if number == gated[0].number] == [TrialState.GATED]


def middle_of(metric: str) -> float:
    """A budget about half of the candidates meet."""
    import random

    from search_space.space import space as build_space

    space, rng = build_space("debug_space", {"depth": 2, "d_model": 64, "vocab_size": 256}), random.Random(0)
    costs = sorted(closed_form(space.decode(space.sample(rng)), metric, None, "8da4w", "fp32") for _ in range(50))
    return float(costs[25])


def test_an_impossible_budget_ends_at_once_with_its_sentence() -> None:
    store = MemoryStore(spec_of(budgets={"memory_bytes@256": 10}))
    assert run(store) == {}
    assert store.record.state is StudyState.FINISHED
    assert "no candidate of debug_space can meet memory_bytes@256 <= 10 bytes: the smallest has" in store.record.reason


def test_nothing_feasible_is_said_with_the_best_seen() -> None:
    store = MemoryStore(spec_of(budgets={"decode_ms@256": 0.5}))
    assert run(store) == {TrialState.INFEASIBLE: 6}
    best = min(row.metrics["decode_ms@256"].median for t in store.trials() for row in t.measurements.values())
    assert store.record.state is StudyState.FINISHED
    assert store.record.reason.startswith(
        f"none of 6 candidates met the budget decode_ms@256 0.5 ms: the best had {best:.6g}; nearest: candidate "
    )
    misses = nearest_misses(store.trials(), store.record.spec)
    assert [miss.broken[0].value for miss in misses][0] == best and len(misses) == 3
    assert misses[0].broken[0].sentence in store.record.reason


def test_at_most_max_quality_are_judged() -> None:
    store, workspace = MemoryStore(spec_of("quality", "decode_ms@256", max_quality=2)), FakeWorkspace()
    states = run(store, workspace)
    assert len(workspace.judged) == 2
    assert states[TrialState.COMPLETE] == 2
    assert store.record.state is StudyState.FINISHED


def test_the_beaten_are_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the best quality still possible is known to be low, slower candidates are not worth training."""
    monkeypatch.setattr("nas.front.optimistic_quality", lambda arch, judged, metric: 0.5 if judged else 1.0)
    store, workspace = MemoryStore(spec_of("quality", "decode_ms@256", max_trials=10)), FakeWorkspace()
    states = run(store, workspace)
    assert states[TrialState.DOMINATED] > 0
    assert states[TrialState.DOMINATED] + states[TrialState.COMPLETE] == 10
    assert len(workspace.judged) == states[TrialState.COMPLETE]
    for trial in store.trials():
        assert (trial.quality is None) == (trial.state is TrialState.DOMINATED)
        if trial.state is TrialState.DOMINATED:
            assert "dominated by candidate" in trial.reason


def test_known_rows_and_judgements_are_used_again() -> None:
    spec = spec_of("quality", "decode_ms@256")
    first = MemoryStore(spec)
    run(first)
    second, workspace = MemoryStore(spec), FakeWorkspace()
    second.qualities = first.qualities
    second.measured = first.measured
    assert run(second, workspace) == {TrialState.COMPLETE: 6}
    assert second.jobs == {}
    assert workspace.judged == []
    assert [trial.values for trial in second.trials()] == [trial.values for trial in first.trials()]


def test_a_spoiled_session_is_taken_again() -> None:
    store = MemoryStore(spec_of(), answer=lambda job, attempt: Verdict.VALID if attempt == 2 else Verdict.NOISY)
    assert run(store) == {TrialState.COMPLETE: 6}
    assert len(store.jobs) == 18


@pytest.mark.parametrize(
    ("verdict", "sessions"), [(Verdict.NOISY, MAX_SESSIONS), (Verdict.PARITY_FAILED, 1), (Verdict.OUT_OF_MEMORY, 1)]
)
def test_a_trial_fails_with_its_verdict(verdict: Verdict, sessions: int) -> None:
    store = MemoryStore(spec_of(max_trials=3), answer=lambda *_: verdict)
    assert run(store) == {TrialState.FAILED: 3}
    assert len(store.jobs) == 3 * sessions
    assert all(trial.reason.startswith(f"verdict {verdict}") for trial in store.trials())
    assert all(trial.values == {} for trial in store.trials())
    assert store.record.state is StudyState.FINISHED


def test_a_failed_judgement_fails_its_trial_only() -> None:
    def quality(arch: ArchConfig) -> float:
        return 0.5

    class Broken(FakeWorkspace):
        def start_quality(self, spec: Any, arch: ArchConfig) -> Future[dict[str, Any]]:
            broken = not self.judged
            return (
                done(MemoryError("no room"))
                if broken and not self.judged.append("x")
                else super().start_quality(spec, arch)
            )

    store = MemoryStore(spec_of("quality", "decode_ms@256"))
    states = run(store, Broken(quality))
    assert states == {TrialState.FAILED: 1, TrialState.COMPLETE: 5}
    (failed,) = [trial for trial in store.trials() if trial.state is TrialState.FAILED]
    assert failed.reason == "quality estimate failed: MemoryError: no room"


def test_a_metric_the_protocol_lacks_is_said() -> None:
    store = MemoryStore(spec_of("decode_ms@512", max_trials=2))
    assert run(store) == {TrialState.FAILED: 2}
    assert store.trials()[0].reason == "the quick protocol does not measure decode_ms@512"


def test_the_winner_is_confirmed_beside_its_composed_form() -> None:
    store = MemoryStore(spec_of(confirm=1))
    run(store)
    (job,) = [job for job in store.jobs.values() if job.record.form == "one_piece"]
    winner = store.rows[job.record.trial_id]
    assert winner.artifacts == {"one_piece": "ee" * 32}
    assert set(winner.confirmed) == set(DEVICES)
    assert job.job.plan.check == CHECK
    assert job.job.beside.chain[0].block == winner.arch_digest
    assert store.events.count("one_piece_started") == 1


def test_a_winner_that_was_judged_itself_keeps_its_weights(imported: str) -> None:
    quality = {"estimator": "inherited", "options": {"parent": imported}}
    store = MemoryStore(spec_of(
        "bits_per_byte", "decode_ms@256", confirm=1, quality=quality, space="around",
        space_options={"parent": imported},
    ))  # fmt: skip
    run(store, FakeWorkspace(lambda arch: 2.0, metric="bits_per_byte"))
    first = store.trials()[0]
    assert first.sampler_attrs["name"] == imported and first.arch == parent_arch(imported)
    (winner,) = [trial for trial in store.trials() if trial.confirmed]
    assert winner.artifacts == {"one_piece": "ee" * 32, "weights": f"{winner.arch_digest}.tar"}
    assert winner.program_quality is not None and winner.program_quality.score == 2.0


class Sharper(FakeWorkspace):
    """At the higher fidelity what looked best is worst."""

    def start_quality(self, spec: Any, arch: ArchConfig) -> Future[dict[str, Any]]:
        if spec.options.get("steps") != 400:
            return super().start_quality(spec, arch)
        score = 1.0 - self.quality(arch)
        return done(QualityResult(estimator="fake", score=score, low=score, high=score).model_dump())


def attention(arch: ArchConfig) -> float:
    return 0.2 + 0.1 * sum(layer.mixer.kind == "gqa" for layer in arch.layers) + 0.001 * arch.layers[0].ffn.width


def test_finalists_are_judged_again_and_winners_chosen_by_that() -> None:
    quality = {"finalists": {"count": 3, "options": {"steps": 400}}}
    store = MemoryStore(spec_of("quality", "decode_ms@256", max_trials=12, confirm=1, quality=quality))
    run(store, Sharper(attention))
    finals = [trial for trial in store.trials() if trial.final_quality is not None]
    assert 1 < len(finals) <= 3 and store.events.count("finalist_judged") == len(finals)
    assert all(t.final_quality.score == pytest.approx(1 - t.quality.score) for t in finals)  # type: ignore[union-attr]
    (winner,) = [trial for trial in store.trials() if trial.confirmed]
    assert winner.final_quality is not None
    Study(store, Sharper(attention)).run()  # nothing is judged anew
    assert store.events.count("finalist_judged") == len(finals)


def test_a_finalist_that_fails_leaves_the_others() -> None:
    class Broken(Sharper):
        def start_quality(self, spec: Any, arch: ArchConfig) -> Future[dict[str, Any]]:
            final = spec.options.get("steps") == 400
            return done(MemoryError("no room")) if final else super().start_quality(spec, arch)

    quality = {"finalists": {"count": 2, "options": {"steps": 400}}}
    store = MemoryStore(spec_of("quality", "decode_ms@256", confirm=1, quality=quality))
    run(store, Broken(attention))
    assert store.record.state is StudyState.FINISHED
    assert store.events.count("finalist_failed") == 2 and not any(t.confirmed for t in store.trials())


def test_a_winner_that_cannot_be_exported_ends_the_study_all_the_same() -> None:
    store = MemoryStore(spec_of(confirm=1))
    assert run(store, FakeWorkspace(export="fails")) == {TrialState.COMPLETE: 6}
    assert store.record.state is StudyState.FINISHED
    assert "one_piece_failed" in store.events


def test_a_small_space_ends_when_it_is_exhausted() -> None:
    options = {"depth": 1, "d_model": 64, "vocab_size": 256}
    store = MemoryStore(spec_of(max_trials=50, space_options=options))
    assert run(store) == {TrialState.COMPLETE: 8}
    assert store.record.state is StudyState.FINISHED


def test_without_a_device_it_waits_for_one() -> None:
    store = MemoryStore(spec_of(max_trials=2))
    store.devices_now = {}
    wait = store.wait

    def plug_in(seconds: float) -> None:
        if store.num_waits == 3:
            assert store.jobs == {}
            store.devices_now = dict(DEVICES)
        wait(seconds)

    store.wait = plug_in  # type: ignore[method-assign]
    assert run(store) == {TrialState.COMPLETE: 2}


def test_stopping_keeps_what_was_measured_and_resuming_goes_on() -> None:
    store = MemoryStore(spec_of())
    wait = store.wait

    def stop_soon(seconds: float) -> None:
        wait(seconds)
        store.stopped = store.num_waits == 1

    store.wait = stop_soon  # type: ignore[method-assign]
    run(store)
    assert store.record.state is StudyState.STOPPED
    kept = {trial.id: trial.measurements for trial in store.trials() if trial.measurements}
    assert 0 < len(kept) < 6
    store.record, store.stopped = store.record.model_copy(update={"state": StudyState.RUNNING}), False
    store.wait = wait  # type: ignore[method-assign]
    assert run(store) == {TrialState.COMPLETE: 6}
    assert all(store.rows[trial_id].measurements == rows for trial_id, rows in kept.items())


def test_killed_after_any_write_it_goes_on_to_the_same_end() -> None:
    """Every write may be the last one of a run; the next run starts from the store alone."""
    spec = spec_of("quality", "decode_ms@256", max_trials=4, confirm=1, budgets={"params": middle_of("params")})
    whole = MemoryStore(spec)
    run(whole)
    for num_writes in range(1, 60):
        store, deaths = MemoryStore(spec), 0
        while store.record.state is StudyState.RUNNING and deaths < 200:
            store.calls_left = num_writes
            try:
                run(store)
            except Killed:
                deaths += 1
                store.calls_left = 10**9
        if num_writes < 4:  # so short a life may not reach the next lasting step
            continue
        assert store.record.state is StudyState.FINISHED, num_writes
        states = Counter(trial.state for trial in store.trials())
        assert states[TrialState.COMPLETE] == 4, (num_writes, states)
        assert set(states) <= set(FINISHED_TRIALS)
        assert len({trial.arch_digest for trial in store.trials()}) == len(store.trials())
        assert len(store.jobs) == len(whole.jobs) == 5
        if deaths == 0:
            break
    else:
        pytest.fail("the longest life was too short")
