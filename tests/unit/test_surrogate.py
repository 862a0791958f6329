"""The surrogate's parts against independent answers: additive costs, closed-form improvement, speed by construction."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from contracts.states import TrialState
from contracts.study import StudySpec, TrialFacts
from nas.hypervolume import hypervolume
from nas.samplers.optuna_sampler import OptunaSampler
from nas.samplers.surrogate.acquisition import expected_improvement
from nas.samplers.surrogate.models import AdditiveModel, GaussianProcess
from nas.samplers.surrogate.of_study import models_of
from nas.samplers.surrogate.structure import Structure
from search_space.cost import closed_form
from search_space.space import SearchSpace, space, space_from_data

VARIED = {
    "name": "varied", "d_model": [64, 96], "vocab_size": 64, "depth": {"min": 2, "max": 4}, "tied": {"ffn": 2},
    "mixers": [{"kind": "gated_short_conv", "kernel": 3}, {"kind": "gqa", "num_heads": 2, "num_kv_heads": 1,
                                                           "head_dim": 32}, "skip"], "ffn": [0, 64, "2x"],
}  # fmt: skip


def spec_of(**changes: Any) -> StudySpec:
    given = {"name": "s", "objectives": [{"metric": "decode_ms@256"}, {"metric": "params"}], "max_trials": 40}
    return StudySpec.model_validate({**given, **changes})


@pytest.mark.parametrize("of", [space("debug_space"), space_from_data(VARIED)], ids=["flat", "varied"])
def test_closed_form_costs_are_predicted_exactly(of: SearchSpace) -> None:
    spec = spec_of(objectives=[{"metric": "memory_bytes@256"}])
    structure = Structure(of)
    models = models_of(spec, of)
    models.fit(structure.rows([]), [])
    rng = random.Random(1)
    drawn = [of.sample(rng) for _ in range(50)]
    predicted = models.predict("memory_bytes@256", structure.rows(drawn))
    assert predicted is not None
    real = [closed_form(of.decode(one), "memory_bytes", 256, "8da4w", "fp32") for one in drawn]
    np.testing.assert_allclose(predicted[0], real, rtol=1e-5)


def test_an_additive_cost_is_learnt_with_an_interval_that_holds() -> None:
    structure, rng = Structure(space("debug_space")), np.random.default_rng(0)
    rows = structure.random(400, rng)
    blocks = structure.blocks(rows)
    y = blocks @ rng.uniform(0.5, 2.0, blocks.shape[1]) + rng.normal(0, 0.1, len(rows))
    mean, deviation = AdditiveModel.fit(blocks[:40], y[:40]).predict(blocks[40:], blocks[40:])
    inside = np.abs(mean - y[40:]) <= 1.96 * deviation
    assert 0.88 <= inside.mean() <= 1.0
    assert deviation.mean() < 0.3


def test_a_process_learns_what_depends_on_positions() -> None:
    structure, rng = Structure(space("debug_space")), np.random.default_rng(0)
    rows = structure.random(300, rng)
    blocks, positions = structure.blocks(rows), structure.positions(rows)
    weights = rng.normal(0, 1, positions.shape[1])
    y = positions @ weights + rng.normal(0, 0.05, len(rows))
    process = GaussianProcess.fit(blocks[:200], positions[:200], y[:200])
    additive = AdditiveModel.fit(blocks[:200], y[:200])
    left = [np.std(model.predict(blocks[200:], positions[200:])[0] - y[200:]) for model in (process, additive)]
    assert left[0] < 0.5 * left[1]


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_the_improvement_is_that_of_drawn_outcomes(axes: int) -> None:
    rng = np.random.default_rng(axes)
    front, reference = rng.uniform(0, 1, (6, axes)), np.full(axes, 1.1)
    means, deviations = rng.uniform(0, 1, (3, axes)), rng.uniform(0.05, 0.3, (3, axes))
    found = expected_improvement(means, deviations, front, reference)
    before = hypervolume(front, reference.tolist(), ["min"] * axes)
    for row in range(3):
        drawn = rng.normal(means[row], deviations[row], (3000, axes))
        gains = [hypervolume(np.vstack((front, one)), reference.tolist(), ["min"] * axes) - before for one in drawn]
        assert found[row] == pytest.approx(np.mean(gains), rel=0.1, abs=1e-9 + 4 * np.std(gains) / np.sqrt(len(gains)))


def test_nothing_over_the_budget_is_proposed_once_costs_are_known() -> None:
    of = space("debug_space")
    spec = spec_of(budgets={"decode_ms@256": 6.0}, sampler="surrogate")
    sampler, over = OptunaSampler(spec, of), 0
    for number in range(30):
        proposal = sampler.ask()
        assert proposal is not None
        arch = of.decode(proposal.assignment)
        ms = sum(2.0 if layer.mixer.kind == "gqa" else 1.0 for layer in arch.layers)
        values = {"decode_ms@256": ms, "params": closed_form(arch, "params", None, "8da4w", "fp32")}
        met = ms <= 6.0
        sampler.tell(TrialFacts(
            id=f"t{number}", study_id="s", number=number, assignment=proposal.assignment, arch_digest=arch.digest,
            state=TrialState.COMPLETE if met else TrialState.INFEASIBLE, values=values if met else {},
            costs=values,
        ))  # fmt: skip
        over += number >= 20 and not met
    assert over <= 2


def test_a_space_with_rules_gets_only_candidates_that_keep_them() -> None:
    of = space_from_data({**VARIED, "rules": [{"mixer": "gqa", "at_least": 1, "at_most": 1}]})
    sampler = OptunaSampler(spec_of(sampler="surrogate"), of)
    for number in range(25):
        proposal = sampler.ask()
        assert proposal is not None
        arch = of.decode(proposal.assignment)
        assert [layer.mixer.kind for layer in arch.layers].count("gqa") == 1
        costs = {"decode_ms@256": 1.0 + number % 3, "params": closed_form(arch, "params", None, "8da4w", "fp32")}
        sampler.tell(TrialFacts(id=f"t{number}", study_id="s", number=number, assignment=proposal.assignment,
                                arch_digest=arch.digest, state=TrialState.COMPLETE, values=costs))  # fmt: skip


@pytest.mark.parametrize("objective", ["decode_ms@256", "params"])
def test_constant_objectives_and_few_rows_are_no_error(objective: str) -> None:
    of = space("debug_space", {"depth": 2})
    sampler = OptunaSampler(spec_of(objectives=[{"metric": objective}], sampler="surrogate"), of)
    for number in range(20):
        proposal = sampler.ask()
        assert proposal is not None
        sampler.tell(TrialFacts(
            id=f"t{number}", study_id="s", number=number, assignment=proposal.assignment, arch_digest=str(number),
            state=TrialState.COMPLETE, values={objective: 1.0},
        ))  # fmt: skip
