"""One contract over every sampler: proposals are new, the history alone decides them, made-up values never enter."""

from __future__ import annotations

import random
from typing import Any

import optuna
import pytest

from contracts.states import TrialState
from contracts.study import StudySpec, TrialFacts
from foundation.errors import InvalidConfig
from nas.samplers import SAMPLERS
from nas.samplers.facts import frozen_trial
from nas.samplers.optuna_sampler import OptunaSampler
from search_space.space import Assignment, SearchSpace
from search_space.space import space as build_space
from search_space.space.core import key_of

OBJECTIVES = ("decode_ms@256", "memory_bytes@256")
UNTOLD = [
    TrialState.FAILED, TrialState.GATED, TrialState.INFEASIBLE, TrialState.DOMINATED, TrialState.PROPOSED,
    TrialState.PREPARING, TrialState.MEASURING, TrialState.MEASURED, TrialState.JUDGING,
]  # fmt: skip


def spec_for(sampler: str, **changes: Any) -> StudySpec:
    objectives = [{"metric": metric} for metric in OBJECTIVES]
    return StudySpec.model_validate(
        {"name": "samplers", "objectives": objectives, "sampler": sampler, "max_trials": 30, "seed": 3, **changes}
    )


def trial_of(
    number: int, assignment: Assignment, state: TrialState = TrialState.COMPLETE, attrs: dict[str, Any] | None = None
) -> TrialFacts:
    """A stored trial; its values follow from the assignment, so that equal histories have equal values."""
    value = random.Random(repr(sorted(assignment.items()))).random()
    values = {OBJECTIVES[0]: value, OBJECTIVES[1]: 1 - value**2}
    return TrialFacts(
        id=f"trial-{number}", study_id="study", number=number, state=state, assignment=assignment,
        arch_digest=str(number), sampler_attrs=attrs or {}, values=values if state is TrialState.COMPLETE else {},
    )  # fmt: skip


class SamplerContract:
    name: str
    asks_with_restarts = 14  # a Gaussian process takes seconds for one

    def sampler(self, space: SearchSpace, **changes: Any) -> OptunaSampler:
        return OptunaSampler(spec_for(self.name, **changes), space)

    def run(self, sampler: OptunaSampler, count: int, state: TrialState = TrialState.COMPLETE) -> list[TrialFacts]:
        """The history of a live search: ask, tell, ``count`` times or until the space is exhausted."""
        history: list[TrialFacts] = []
        while len(history) < count and (proposal := sampler.ask()) is not None:
            history.append(trial_of(len(history), proposal.assignment, state, proposal.attrs))
            sampler.tell(history[-1])
        return history

    def test_proposals_are_in_the_space_and_new(self) -> None:
        space = build_space("debug_space", {"depth": 3})
        history = self.run(self.sampler(space), 14)
        digests = {space.decode(trial.assignment).digest for trial in history}
        assert len(digests) == len(history) == 14

    def test_a_tiny_space_is_exhausted_then_none(self) -> None:
        space = build_space("debug_space", {"depth": 1})
        sampler = self.sampler(space)
        history = self.run(sampler, 100)
        assert len(history) == space.num_candidates == 8
        assert len({repr(sorted(trial.assignment.items())) for trial in history}) == 8
        assert sampler.ask() is None

    def test_a_replayed_history_gives_the_same_next_proposal(self) -> None:
        space = build_space("debug_space", {"depth": 3})
        live = self.sampler(space)
        history = self.run(live, 12)
        restarted = self.sampler(space)
        restarted.replay(reversed(history))
        assert restarted.ask() == live.ask()

    def test_a_restart_in_the_middle_changes_nothing(self) -> None:
        """Results arrive late, while others are already proposed; the restarted sampler continues the same way."""
        space = build_space("debug_space", {"depth": 4})
        histories = []
        for restarts in (False, True):
            sampler, history, open_trials = self.sampler(space), [], []
            for number in range(self.asks_with_restarts):
                if restarts and number % 7 == 3:
                    sampler = self.sampler(space)
                    sampler.replay([*history, *open_trials])
                proposal = sampler.ask()
                assert proposal is not None
                open_trials.append(trial_of(number, proposal.assignment, TrialState.MEASURING, proposal.attrs))
                sampler.tell(open_trials[-1])
                if len(open_trials) > 3:
                    done = open_trials.pop(0)
                    history.append(trial_of(done.number, done.assignment, TrialState.COMPLETE, done.sampler_attrs))
                    sampler.tell(history[-1])
            histories.append([trial.assignment for trial in history])
        assert histories[0] == histories[1]

    def test_the_seed_decides(self) -> None:
        space = build_space("debug_space", {"depth": 4})
        first, again, other = (self.run(self.sampler(space, seed=seed), 5) for seed in (1, 1, 2))
        assert [trial.assignment for trial in first] == [trial.assignment for trial in again]
        assert [trial.assignment for trial in first] != [trial.assignment for trial in other]

    def test_telling_again_replaces(self) -> None:
        space = build_space("debug_space", {"depth": 3})
        once, twice = self.sampler(space), self.sampler(space)
        trial = trial_of(0, space.sample(random.Random(0)))
        twice.tell(trial.model_copy(update={"state": TrialState.MEASURING, "values": {}}))
        for sampler in (once, twice):
            sampler.tell(trial)
        assert once.ask() == twice.ask()

    @pytest.mark.parametrize("state", UNTOLD)
    def test_trials_without_values_are_known_but_not_told(self, state: TrialState) -> None:
        space = build_space("debug_space", {"depth": 2})
        sampler = self.sampler(space)
        history = self.run(sampler, 10, state)
        assert len({space.decode(trial.assignment).digest for trial in history}) == 10
        assert all(trial.values is None for trial in sampler.study.trials)

    def test_only_complete_trials_carry_values(self) -> None:
        """A value on a trial that failed (a stale one, or a bug elsewhere) is not believed."""
        space, spec = build_space("debug_space", {"depth": 2}), spec_for(self.name)
        sampler, rng = self.sampler(space), random.Random(0)
        for number, state in enumerate([TrialState.COMPLETE, *UNTOLD]):
            trial = trial_of(number, space.sample(rng))
            sampler.tell(trial.model_copy(update={"state": state}))
            frozen = frozen_trial(trial.model_copy(update={"state": state}), spec, sampler._distributions)
            assert (frozen.values is not None) == (state is TrialState.COMPLETE)
        told = [trial for trial in sampler.study.trials if trial.values is not None]
        assert [trial.user_attrs["hilnas_trial_id"] for trial in told] == ["trial-0"]
        assert sampler.ask() is not None

    def test_a_complete_trial_that_lacks_an_objective_is_not_told(self) -> None:
        space = build_space("debug_space", {"depth": 2})
        trial = trial_of(0, space.sample(random.Random(0))).model_copy(update={"values": {OBJECTIVES[0]: 1.0}})
        sampler = self.sampler(space)
        sampler.tell(trial)
        assert sampler.study.trials[0].state is optuna.trial.TrialState.FAIL

    def test_what_other_studies_know_is_no_trial_of_this_one(self) -> None:
        """Their candidates may be proposed again, and every one is."""
        space = build_space("debug_space", {"depth": 1})
        sampler, rng = self.sampler(space), random.Random(0)
        sampler.tell_earlier([trial_of(number, space.sample(rng)) for number in range(5)])
        history = self.run(sampler, 100)
        assert len(history) == space.num_candidates == 8
        assert len(sampler.study.trials) == 5 + 8 and sampler.ask() is None

    def test_a_restart_with_what_other_studies_know_changes_nothing(self) -> None:
        space, rng = build_space("debug_space", {"depth": 3}), random.Random(0)
        earlier = [trial_of(number, space.sample(rng)) for number in range(12)]
        live, restarted = self.sampler(space), self.sampler(space)
        live.tell_earlier(earlier)
        history = self.run(live, 9)
        restarted.tell_earlier(earlier)
        restarted.replay(reversed(history))
        assert restarted.ask() == live.ask()

    def test_a_list_of_candidates_is_proposed_to_its_end_and_nothing_else(self) -> None:
        space, rng = build_space("debug_space", {"depth": 4}), random.Random(0)
        listed = space.limited_to({space.decode(one).digest: one for one in map(space.sample, [rng] * 15)}.values())
        history = self.run(self.sampler(listed), 100)
        inside = {key_of(one) for one in listed.listed or ()}
        assert {key_of(trial.assignment) for trial in history} == inside and len(history) == len(inside)

    def test_trials_carry_their_metrics_and_how_far_budgets_are_broken(self) -> None:
        """Also those without values: what was measured of them is true."""
        space = build_space("debug_space", {"depth": 2})
        sampler = self.sampler(space, budgets={"params": 1000.0})
        rng = random.Random(0)
        for number, state in enumerate((TrialState.GATED, TrialState.INFEASIBLE, TrialState.DOMINATED)):
            trial = trial_of(number, space.sample(rng), state)
            sampler.tell(trial.model_copy(update={"costs": {"params": 1500.0, "memory_bytes@256": 7.0}}))
        for trial in sampler.study.trials:
            assert trial.user_attrs["metrics"] == {"params": 1500.0, "memory_bytes@256": 7.0}
            assert trial.constraints == {"params": 500.0}
        assert sampler.ask() is not None


class GeneticContract(SamplerContract):
    """A genetic algorithm has generations, and those after the first are better than random draws."""

    asks_with_restarts = 40

    def test_generations_advance(self) -> None:
        history = self.run(self.sampler(build_space("debug_space", {"depth": 4})), 40)  # populations of 8
        generations = [next(iter(trial.sampler_attrs["trial"].values())) for trial in history]
        assert generations == sorted(generations) and generations[0] == 0 and generations[-1] == 4

    def test_later_generations_beat_random_draws(self) -> None:
        space, means = build_space("debug_space", {"depth": 8}), {}
        for name in (self.name, "random"):
            found = []
            for seed in range(4):
                sampler, rows = OptunaSampler(spec_for(name, seed=seed, max_trials=64), space), []
                for number in range(64):
                    proposal = sampler.ask()
                    assert proposal is not None
                    trial = trial_of(number, proposal.assignment, attrs=proposal.attrs)
                    share = first_choices(space, proposal.assignment)
                    rows.append(share)
                    sampler.tell(trial.model_copy(update={"values": dict.fromkeys(OBJECTIVES, 1 - share)}))
                found += rows[-16:]
            means[name] = sum(found) / len(found)
        assert means[self.name] > means["random"] + 0.06, means


def first_choices(space: SearchSpace, assignment: Assignment) -> float:
    """A landscape with one best corner: the share of parameters at their first choice."""
    choices = space.parameters()
    return sum(value == choices[name][0] for name, value in assignment.items()) / len(assignment)


class TestSurrogate(SamplerContract):
    name = "surrogate"

    def test_it_finds_the_corner_that_random_draws_do_not(self) -> None:
        """The control: with ``random`` in its place the shares of both would be equal. Both metrics are measured: a
        closed form is known, whatever is told."""
        measured = ("decode_ms@256", "prefill_ms@256")
        space, best = build_space("debug_space", {"depth": 8}), {}
        for name in (self.name, "random"):
            spec = spec_for(name, max_trials=40, objectives=[{"metric": key} for key in measured])
            sampler = OptunaSampler(spec, space)
            shares = []
            for number in range(40):
                proposal = sampler.ask()
                assert proposal is not None
                shares.append(first_choices(space, proposal.assignment))
                trial = trial_of(number, proposal.assignment, attrs=proposal.attrs)
                sampler.tell(trial.model_copy(update={"values": dict.fromkeys(measured, 1 - shares[-1])}))
            best[name] = max(shares)
        assert best[self.name] > best["random"] + 0.2, best


    def test_what_other_studies_know_makes_its_first_proposals_better(self) -> None:
        """The control is the same sampler, told nothing."""
        measured = ("decode_ms@256", "prefill_ms@256")
        spec = spec_for(self.name, objectives=[{"metric": key} for key in measured])
        space, rng, shares = build_space("debug_space", {"depth": 8}), random.Random(0), {}
        earlier = []
        for number in range(30):
            trial = trial_of(number, space.sample(rng))
            share = first_choices(space, trial.assignment)
            earlier.append(trial.model_copy(update={"values": dict.fromkeys(measured, 1 - share)}))
        for told in (True, False):
            sampler = OptunaSampler(spec, space)
            sampler.tell_earlier(earlier if told else [])
            found = []
            for number in range(5):
                proposal = sampler.ask()
                assert proposal is not None
                found.append(first_choices(space, proposal.assignment))
                trial = trial_of(number, proposal.assignment, attrs=proposal.attrs)
                sampler.tell(trial.model_copy(update={"values": dict.fromkeys(measured, 1 - found[-1])}))
            shares[told] = sum(found) / len(found)
        assert shares[True] > shares[False] + 0.2, shares


class TestGp(SamplerContract):
    name = "gp"


class TestNsga2(GeneticContract):
    name = "nsga2"


class TestNsga3(GeneticContract):
    name = "nsga3"


class TestTpe(SamplerContract):
    name = "tpe"


class TestRandom(SamplerContract):
    name = "random"


def test_an_unknown_sampler_names_the_known_ones() -> None:
    with pytest.raises(InvalidConfig, match="unknown sampler 'guess'; known: surrogate, gp, nsga2, nsga3, tpe, random"):
        SAMPLERS.get_or_raise("guess")


def test_directions_reach_optuna() -> None:
    spec = StudySpec.model_validate({"name": "d", "objectives": [{"metric": "quality"}, {"metric": "decode_ms@1"}]})
    directions = OptunaSampler(spec, build_space("debug_space")).study.directions
    assert [direction.name for direction in directions] == ["MAXIMIZE", "MINIMIZE"]
