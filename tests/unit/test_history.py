"""What a study remembers and when it proposes: history, plateau, known architectures, waiting for judgements."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from contracts.states import StudyState, TrialState
from contracts.study import StudySpec, TrialRecord
from foundation.errors import InvalidConfig
from nas.history import History, Plateau
from nas.starters import starters
from nas.study import Study
from search_space.arch import ArchConfig
from search_space.presets import PRESETS, preset
from search_space.space import space
from tests.doubles.memory_store import MemoryStore
from tests.doubles.workspace import FakeWorkspace, no_blocks, run, spec_of  # noqa: F401
from tests.server import samples

SMALL = {"depth": 2, "d_model": 64, "vocab_size": 256}


def record(number: int, state: TrialState = TrialState.PROPOSED, **fields: Any) -> TrialRecord:
    arch = samples.candidate(number)
    given = {"study_id": "s", "assignment": {}, "arch": arch, "arch_digest": arch.digest, **fields}
    return TrialRecord(id=f"trial-{number}", number=number, state=state, **given)


def test_a_trial_is_in_one_state_at_a_time() -> None:
    history = History()
    assert history.note(record(1)) and history.note(record(0)) and not history.note(record(1))
    assert history.note(record(1, TrialState.MEASURING))
    assert (history.count(TrialState.PROPOSED), history.count(TrialState.MEASURING), len(history)) == (1, 1, 2)
    assert [trial.number for trial in history.within([TrialState.MEASURING, TrialState.PROPOSED])] == [0, 1]
    assert history.knows(record(1).arch_digest) and not history.knows("another")


def test_a_front_that_stands_still_is_a_plateau() -> None:
    plateau = Plateau(spec_of(patience=3))
    keys = ("decode_ms@256", "memory_bytes@256")
    add = lambda *values: plateau.add(dict(zip(keys, values, strict=True)), dict.fromkeys(keys, 10.0))  # noqa: E731
    add(5.0, 5.0)
    for _ in range(2):
        add(6.0, 6.0)
    assert not plateau.reached
    add(4.0, 6.0)  # a gain
    for _ in range(3):
        assert not plateau.reached
        add(5.0, 5.0)
    assert plateau.reached and plateau.sentence == "the front stood still for 3 candidates"


def test_patience_ends_a_study_with_its_reason() -> None:
    store = MemoryStore(spec_of(max_trials=60, patience=4))
    states = run(store)
    assert states[TrialState.COMPLETE] < 60
    assert store.record.state is StudyState.FINISHED
    assert "; the front stood still for " in store.record.reason


def test_an_exhausted_space_is_said() -> None:
    store = MemoryStore(spec_of(max_trials=100, space_options={**SMALL, "depth": 1}))
    assert run(store) == {TrialState.COMPLETE: 8}
    assert store.record.reason.endswith("; every candidate of the space is known")


def test_a_space_of_one_candidate() -> None:
    one = {"name": "one", "d_model": 64, "vocab_size": 256, "depth": 2, "mixers": ["skip"], "ffn": [64]}
    store = MemoryStore(spec_of(space=one, space_options={}, sampler="surrogate"))
    assert run(store) == {TrialState.COMPLETE: 1}
    assert store.record.reason.startswith("1 candidates complete, 1 on the front")


def test_presets_of_the_space_come_first() -> None:
    spec = StudySpec.model_validate({"name": "s", "space": "lfm2_350m_class", "objectives": [{"metric": "params"}]})
    of = space("lfm2_350m_class")
    assert starters(spec, of) == [("lfm2_350m", preset("lfm2_350m"))]
    assert starters(spec.model_copy(update={"start_with": []}), of) == []
    with pytest.raises(InvalidConfig, match="is not in lfm2_350m_class"):
        starters(spec.model_copy(update={"start_with": ["gemma3_1b"]}), of)


def test_a_named_architecture_is_the_first_candidate() -> None:
    of = space("debug_space", SMALL)
    known = of.decode({name: labels[-1] for name, labels in of.parameters().items()})
    with PRESETS.temporarily({"mine": lambda: known}):
        store = MemoryStore(spec_of(start_with=["mine"]))
        run(store)
    first = store.trials()[0]
    assert (first.arch, first.sampler_attrs) == (known, {"name": "mine"})


class NeverJudges(FakeWorkspace):
    def start_quality(self, spec: Any, arch: ArchConfig) -> Future[dict[str, Any]]:
        return Future()


def test_proposals_wait_for_judgements() -> None:
    """The devices are fast and the judges are not: no more than a few candidates are measured ahead."""
    store = MemoryStore(spec_of("quality", "decode_ms@256", max_trials=50, unjudged_ahead=4))
    study = Study(store, NeverJudges())  # type: ignore[arg-type]
    study.load()
    for _ in range(60):
        if not study.tick():
            store.wait(0)
    waiting = [trial for trial in store.trials() if trial.state in (TrialState.MEASURED, TrialState.JUDGING)]
    assert 4 <= len(waiting) < 4 + study.spec.queue_ahead + len(store.devices())
    assert len(store.trials()) == len(waiting)


def test_a_finished_trial_is_not_read_again() -> None:
    store = MemoryStore(spec_of())
    run(store)
    study, reads = Study(store, FakeWorkspace()), []  # type: ignore[arg-type]
    study.load()
    whole = store.trials
    store.trials = lambda states=None, ids=None: reads.append(states) or whole(states, ids)  # type: ignore[method-assign]
    study.tick()
    assert reads and all(states is not None and TrialState.COMPLETE not in states for states in reads)
