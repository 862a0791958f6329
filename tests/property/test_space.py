"""Search space and architecture codec: one text per architecture, nothing lost on the way there and back."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig
from search_space.space import SPACES, Assignment, SearchSpace, space
from search_space.space import space as build_space

SPACE = build_space("debug_space", {"depth": 5})
seeds = st.integers(0, 2**32 - 1)


def assignments(of: SearchSpace = SPACE) -> st.SearchStrategy[Assignment]:
    return st.fixed_dictionaries({name: st.sampled_from(choices) for name, choices in of.parameters().items()})


@given(assignments())
def test_encode_undoes_decode(assignment: Assignment) -> None:
    assert SPACE.encode(SPACE.decode(assignment)) == assignment


@pytest.mark.parametrize("name", [name for name in SPACES if name != "around"])  # needs a parent
@given(seed=seeds)
def test_samples_of_every_space_survive_the_codec(name: str, seed: int) -> None:
    found = space(name)
    arch = found.decode(found.sample(random.Random(seed)))
    assert found.decode(found.encode(arch)) == arch
    again = ArchConfig.from_dict(json.loads(arch.canonical_json()))
    assert (again, again.digest) == (arch, arch.digest)


@given(assignments(), seeds)
def test_the_digest_does_not_know_the_order_of_keys(assignment: Assignment, seed: int) -> None:
    arch = SPACE.decode(assignment)
    again = ArchConfig.from_dict(_shuffled(arch.to_dict(), random.Random(seed)))
    assert again.digest == arch.digest


@given(assignments(), assignments())
def test_digests_are_equal_exactly_when_assignments_are(first: Assignment, second: Assignment) -> None:
    assert (SPACE.decode(first).digest == SPACE.decode(second).digest) == (first == second)


@given(assignments(), seeds, st.integers(1, len(SPACE.parameters())))
def test_mutate_changes_exactly_n(assignment: Assignment, seed: int, num_changes: int) -> None:
    before = dict(assignment)
    mutant = SPACE.mutate(assignment, random.Random(seed), num_changes)
    assert assignment == before
    assert list(mutant) == list(SPACE.parameters())
    assert sum(mutant[name] != assignment[name] for name in assignment) == num_changes
    SPACE.decode(mutant)


@given(assignments(), st.data())
def test_a_missing_or_unknown_choice_is_named(assignment: Assignment, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(assignment)))
    without = {key: value for key, value in assignment.items() if key != name}
    for broken in (without, {**assignment, name: "mamba"}):
        with pytest.raises(InvalidConfig, match=f"{name}: .*choices: "):
            SPACE.decode(broken)


@given(assignments(build_space("debug_space", {"depth": 4})))
def test_an_architecture_of_another_depth_is_outside(assignment: Assignment) -> None:
    with pytest.raises(InvalidConfig, match="is not in debug_space"):
        SPACE.encode(build_space("debug_space", {"depth": 4}).decode(assignment))


def test_num_candidates_counts_them() -> None:
    small = build_space("debug_space", {"depth": 2})
    names = list(small.parameters())
    found = {()}
    for name in names:
        found = {(*chosen, choice) for chosen in found for choice in small.parameters()[name]}
    digests = {small.decode(dict(zip(names, chosen, strict=True))).digest for chosen in found}
    assert len(digests) == small.num_candidates == 64


def _shuffled(value: object, rng: random.Random) -> object:
    if isinstance(value, dict):
        keys = rng.sample(sorted(value), len(value))
        return {key: _shuffled(value[key], rng) for key in keys}
    return [_shuffled(item, rng) for item in value] if isinstance(value, list) else value
