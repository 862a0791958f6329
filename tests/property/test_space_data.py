"""Spaces as data, at random: codec, moves, counts and rules hold for whatever a file may say."""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.errors import InvalidConfig
from search_space.cost import params
from search_space.presets import preset
from search_space.space import SearchSpace, named, space, space_from_data, space_from_file, space_of
from search_space.space.core import key_of
from search_space.space.counting import extreme

SMALL: dict[str, Any] = {
    "name": "small", "d_model": 64, "vocab_size": 128, "depth": 3,
    "mixers": [{"kind": "gated_short_conv", "kernel": [3, 7]}, {"kind": "gqa", "num_heads": 2, "num_kv_heads": 1,
                                                               "head_dim": 32}, "skip"],
    "ffn": [0, 64, "2x"],
}  # fmt: skip
VARIED = {
    **SMALL, "d_model": [64, 96], "depth": {"min": 2, "max": 4}, "shared": {"sandwich_norm": [False, True],
    "head_dim": [16, 32]}, "mixers": [
        {"kind": "gqa", "num_heads": "auto", "num_kv_heads": 1}, {"kind": "gated_short_conv", "when": {"d_model": 64}},
        "skip",
    ], "tied": {"ffn": 2}, "rules": [
        {"mixer": "gqa", "at_least": 1, "at_most": 2}, {"if": {"sandwich_norm": True}, "then": {"depth": [3, 4]}},
    ],
}  # fmt: skip


@st.composite
def data(draw: st.DrawFn) -> dict[str, Any]:
    """A small random space: groups of layers, shared values, a range of depth, ties and rules."""
    pool = [{"kind": "gated_short_conv", "kernel": 3}, {"kind": "gated_short_conv", "kernel": 4}, "skip",
            {"kind": "gqa", "num_heads": "auto", "num_kv_heads": 1, "head_dim": 32},
            {"kind": "gqa", "num_heads": 2, "num_kv_heads": 1, "head_dim": 32, "rope_theta": 5.0}]  # fmt: skip
    mixers = st.lists(st.sampled_from(pool), min_size=1, max_size=3, unique_by=str)
    ffns = st.lists(st.sampled_from([0, 32, 64, "1.5x", "2.5x"]), min_size=1, max_size=3, unique=True)
    depth = draw(st.integers(1, 3))
    found = {"d_model": draw(st.sampled_from([64, [64, 128]])), "vocab_size": 32, "mixers": draw(mixers),
             "ffn": draw(ffns), "depth": draw(st.sampled_from([depth, {"min": 1, "max": depth}])),
             "tied": {"mixers": draw(st.integers(1, 2)), "ffn": draw(st.integers(1, 2))},
             "shared": draw(st.sampled_from([{}, {"tie_embeddings": [True, False]}]))}  # fmt: skip
    if draw(st.booleans()):
        found["layers"] = [{"at": draw(st.sampled_from([0, -1, [0]])), "mixers": draw(mixers)}]
    if draw(st.booleans()):
        found["rules"] = [{"mixer": "skip", "at_most": draw(st.integers(0, 2))}]
    return found


def read(found: dict[str, Any]) -> SearchSpace | None:
    try:
        return space_from_data(found)
    except InvalidConfig as error:
        assert "keeps all its rules" in str(error)
        return None


def everything(of: SearchSpace) -> list[dict[str, str]]:
    names = of.parameters()
    listed = [dict(zip(names, values, strict=True)) for values in product(*names.values())]
    return [one for one in listed if not of.shortfall(one) and one == of.canonical(one)]


@st.composite
def listed(draw: st.DrawFn) -> SearchSpace | None:
    """Some candidates of a small random space."""
    of = read(draw(data()))
    rng = random.Random(draw(st.integers(0, 2**32 - 1)))
    drawn = [of.decode(of.sample(rng)) for _ in range(draw(st.integers(1, 12)))] if of else []
    return of.limited_to({arch.digest: arch for arch in drawn}.values()) if of else None


@settings(deadline=None)
@given(listed(), st.integers(0, 2**32 - 1))
def test_moves_among_listed_candidates_stay_among_them(of: SearchSpace | None, seed: int) -> None:
    if of is None:
        return
    rng, inside = random.Random(seed), {of.decode(one).digest for one in of.listed or ()}
    first, second = of.sample(rng), of.sample(rng)
    for one in (first, of.mutate(first, rng), of.crossover(first, second, rng)):
        assert of.decode(one).digest in inside and of.encode(of.decode(one)) == one and not of.shortfall(one)
    assert of.mutate(first, rng) != first or len(inside) == 1
    assert of.num_candidates == len(inside)


@settings(deadline=None)
@given(listed(), st.integers(0, 2**32 - 1))
def test_the_nearest_listed_candidate_is_taken(of: SearchSpace | None, seed: int) -> None:
    if of is None or of.listed is None:
        return
    rng = random.Random(seed)
    drawn = of.canonical({name: rng.choice(labels) for name, labels in of.parameters().items()})
    distances = [sum(one[name] != drawn[name] for name in one) for one in of.listed]
    assert of.shortfall(drawn) == min(distances)
    nearest = of.repaired(drawn, rng)
    assert distances[of.listed.index(nearest)] == min(distances)
    others = [one for one in of.listed if one != nearest]
    found = of.repaired(drawn, rng, avoid={key_of(nearest)})
    least = min((distances[of.listed.index(one)] for one in others), default=min(distances))
    assert distances[of.listed.index(found)] == least and (found != nearest or not others)


@settings(deadline=None)
@given(listed())
def test_listed_candidates_may_be_given_in_several_ways(of: SearchSpace | None) -> None:
    if of is None or of.listed is None:
        return
    archs = [of.decode(one) for one in of.listed]
    assert of.limited_to(archs).listed == of.limited_to(of.listed).listed == of.listed
    alone = space_from_data({"candidates": [arch.to_dict() for arch in archs]})
    assert [alone.decode(one) for one in alone.listed or ()] == archs
    rows = [[labels.index(one[name]) for name, labels in of.parameters().items()] for one in of.listed]
    assert of.listing is not None and of.listing.rows.tolist() == rows


@settings(deadline=None)
@given(data(), st.integers(0, 2**32 - 1))
def test_moves_stay_inside_and_the_codec_loses_nothing(found: dict[str, Any], seed: int) -> None:
    if (of := read(found)) is None:
        return
    rng = random.Random(seed)
    first, second = of.sample(rng), of.sample(rng)
    for one in (first, of.mutate(first, rng), of.crossover(first, second, rng)):
        assert of.encode(of.decode(one)) == one == of.canonical(one)


@settings(deadline=None, max_examples=50)
@given(data())
def test_the_count_is_that_of_a_listing(found: dict[str, Any]) -> None:
    of = read(found)
    size = 1
    for labels in of.parameters().values() if of else []:
        size *= len(labels)
    if of is None or size > 1000:
        return
    digests = {of.decode(one).digest for one in everything(of)}
    assert len(digests) == of.num_candidates


def test_rules_conditions_and_ties_hold_for_every_candidate() -> None:
    of = space_from_data(VARIED)
    rng = random.Random(0)
    for _ in range(200):
        arch = of.decode(of.sample(rng))
        kinds = [layer.mixer.kind for layer in arch.layers]
        assert 1 <= kinds.count("gqa") <= 2 and 2 <= arch.depth <= 4
        assert "gated_short_conv" not in kinds or arch.d_model == 64
        assert arch.depth >= 3 or not arch.sandwich_norm
        assert arch.layers[0].ffn == arch.layers[1].ffn
    assert of.num_candidates == len({of.decode(one).digest for one in everything(of)})


def test_extremes_bound_every_candidate() -> None:
    of = space_from_data(SMALL)
    sizes = [params(of.decode(one)) for one in everything(of)]
    assert (extreme(of, params, "min"), extreme(of, params, "max")) == (min(sizes), max(sizes))


def test_a_list_bounds_costs_exactly() -> None:
    of = space_from_data(SMALL)
    chosen = random.Random(0).sample(everything(of), 20)
    sizes = [params(of.decode(one)) for one in chosen]
    listed = of.limited_to(chosen)
    assert (extreme(listed, params, "min"), extreme(listed, params, "max")) == (min(sizes), max(sizes))


def test_moves_among_thousands_of_listed_candidates_avoid_known_ones() -> None:
    of = space_from_data({**SMALL, "depth": 8})
    rng = random.Random(0)
    chosen = {key_of(one): one for one in (of.sample(rng) for _ in range(3000))}
    listed = of.limited_to(chosen.values())
    known: set[str] = set()
    for _ in range(50):
        one = listed.repaired(of.sample(rng), rng, known)
        assert key_of(one) in chosen and key_of(one) not in known
        known.add(key_of(one))


def test_listed_candidates_as_data() -> None:
    rows = {**SMALL, "candidates": [[0, 0, 0, 0, 0, 0], [3, 2, 1, 0, 1, 2]]}
    of = space_from_data(rows)
    assert of.num_candidates == 2
    assignments = [dict(one) for one in of.listed or ()]
    assert space_from_data({**SMALL, "candidates": assignments}).listed == of.listed
    archs = [of.decode(one).to_dict() for one in assignments]
    assert space_from_data({**SMALL, "candidates": archs}).listed == of.listed
    other = space_from_data(SMALL).decode({**assignments[0], "layer_00.ffn": "64"})
    with pytest.raises(InvalidConfig, match="is not in small"):
        of.encode(other)
    with pytest.raises(InvalidConfig, match="none of the 2 listed ones"):
        of.decode({**assignments[0], "layer_00.ffn": "64"})


ARCH = {"d_model": 64, "vocab_size": 32, "layers": [{"mixer": {"kind": "skip"}, "ffn": {"width": 64}}]}


@pytest.mark.parametrize(("data", "sentence"), [
    ({**SMALL, "candidates": []}, "a space lists 1 to 10000 candidates, got 0"),
    ({**SMALL, "candidates": "all"}, "candidates must be a list, got all"),
    ({**SMALL, "candidates": [[0, 0, 0]]}, "a list of 6 choice numbers, got \\[0, 0, 0\\]"),
    ({**SMALL, "candidates": [[0, 0, 0, 9, 0, 0]]}, "layer_01.ffn has choices 0 to 2, got 9"),
    ({**SMALL, "candidates": [[0] * 6, [0] * 6]}, "candidates 0 and 1 of the list are the same"),
    ({**SMALL, "candidates": [{"layer_00.mixer": "skip"}]}, "candidate 0 of the list: layer_00.ffn: None is not"),
    ({**SMALL, "candidates": [ARCH]}, "candidate 0 of the list: architecture .* is not in small"),
    ({"candidates": [[0, 1]]}, "must be an architecture with its layers"),
    ({"candidates": [{**ARCH, "layers": 3}]}, "candidate 0: architecture: layers must be a list of layers, got 3"),
    ({"candidates": [{**ARCH, "d_model": 65}]}, "candidate 0: d_model must be a multiple of 32"),
    ({"candidates": [{**ARCH, "rope_theta": float(i)} for i in range(1, 99)]}, "64 values of rope_theta, got 98"),
    ({"candidates": [{**ARCH, "layers": ARCH["layers"] * 257}]}, "depth must be at most 256, got 257"),
    ({**SMALL, "candidates": [[0] * 6], "rules": [{"mixer": "gqa", "at_least": 1}]}, "it needs at least 1 of gqa"),
])  # fmt: skip
def test_what_is_wrong_with_a_list_is_said_in_a_sentence(data: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidConfig, match=sentence):
        space_from_data(data)


def test_two_attentions_that_differ_in_theta_are_two_choices() -> None:
    gqa = {"kind": "gqa", "num_heads": 2, "num_kv_heads": 1, "head_dim": 32}
    of = space_from_data({**SMALL, "depth": 1, "mixers": [gqa, {**gqa, "rope_theta": 10_000.0}], "ffn": [64]})
    assert of.num_candidates == len({of.decode(one).digest for one in everything(of)}) == 2


def test_known_models_are_points_of_their_spaces() -> None:
    assert space("lfm2_350m_class").decode(space("lfm2_350m_class").encode(preset("lfm2_350m"))) == preset("lfm2_350m")


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"colour": 1}, "unknown field 'colour'"),
    ({"mixers": ["mamba9"]}, "unknown mixer 'mamba9'"),
    ({"mixers": [{"kind": "gqa", "heads": 3}]}, "gqa has no option 'heads'"),
    ({"mixers": []}, "a layer takes 1 to 64 mixers, got 0"),
    ({"mixers": ["skip", "skip"]}, "have the label 'skip'"),
    ({"ffn": ["wide"]}, "a width like 2560 or a multiple of d_model like 2.5x, got 'wide'"),
    ({"ffn": [-1]}, "ffn width must be a whole number of at least 1, got -1"),
    ({"depth": {"min": 3, "max": 2}}, "depth needs min <= max"),
    ({"depth": 10_000}, "depth must be at most 256"),
    ({"d_model": 65}, "d_model must be a multiple of 32"),
    ({"vocab_size": None}, "vocab_size must be a whole number"),
    ({"layers": [{"at": 7}]}, "are not among 0 to 2"),
    ({"layers": [{"at": "x"}]}, "layers at must be like"),
    ({"rules": [{"mixer": "gqa", "at_least": 4}]}, "no candidate keeps all its rules"),
    ({"rules": [{"mixer": "gqa"}]}, "needs at_least or at_most"),
    ({"rules": [{"if": {"d_model": 999}, "then": {"depth": 3}}]}, "d_model is never 999; its choices: 64"),
    ({"shared": {"tie_embeddings": ["no"]}}, "tie_embeddings must be true or false, got 'no'"),
    ({"shared": {"norm_eps": [float("nan")]}}, "norm_eps must be a number above 0, got nan"),
    ({"shared": {"rope_theta": [float("inf")]}}, "rope_theta must be a number above 0"),
    ({"mixers": [{"kind": "gqa", "num_heads": 2**63}]}, "must be a number, true or false"),
    ({"mixers": [{"kind": "gqa", "num_heads": "many"}]}, "must be a number, true or false"),
    ({"mixers": [{"kind": "gqa", "num_heads": list(range(1, 200))}]}, "a layer takes 1 to 64 options of gqa"),
    ({"vocab_size": 2**63}, "vocab_size must be a whole number"),
    ({"rules": [{"mixer": "gqa", "at_most": 1}] * 9}, "at most 4 rules are possible, got 9"),
    ({"rules": [7]}, "rule: expected an object"),
    ({"rules": [{"mixer": "gqa", "at_most": 1, "layers": 3}]}, "like \\[2, 5\\], got 3"),
    ({"depth": 256, "rules": [{"mixer": kind, "at_least": 100} for kind in ("gqa", "skip", "gated_short_conv")]},
     "is too large to check"),
    ({"shared": {"colour": [1, 2]}}, "no architecture and no mixer has 'colour'"),
    ({"shared": {"head_dim": [7, 9]}, "mixers": [{"kind": "gqa", "num_heads": "auto"}]}, "head_dim that divides"),
])  # fmt: skip
def test_what_is_wrong_is_said_in_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidConfig, match=sentence):
        space_from_data({**SMALL, **changes})


def test_a_command_line_names_a_space_with_options() -> None:
    assert named("debug_space depth=3") == ("debug_space", {"depth": 3})
    assert named("around parent=mine windows=256 shares=0.5,0.25") == (
        "around", {"parent": "mine", "windows": [256], "shares": [0.5, 0.25]},
    )  # fmt: skip
    assert space_of("debug_space depth=3").depth == 3
    with pytest.raises(InvalidConfig, match="around needs the option 'parent'"):
        space_of("around")
    with pytest.raises(InvalidConfig, match="is neither a search space"):
        space_of("nothing at all")


def test_files_in_yaml_and_json(tmp_path: Path) -> None:
    text = '{"d_model": 64, "vocab_size": 32, "depth": 1, "mixers": ["skip"], "ffn": [64]}'
    (tmp_path / "mine.json").write_text(text)
    assert space_from_file(tmp_path / "mine.json").name == "mine"
    for name, text, sentence in (("a.yaml", "a: [", "is not YAML"), ("b.json", "{", "is not JSON"),
                                 ("c.yaml", "just text", "expected an object")):  # fmt: skip
        (tmp_path / name).write_text(text)
        with pytest.raises(InvalidConfig, match=sentence):
            space_from_file(tmp_path / name)
    with pytest.raises(InvalidConfig, match="cannot be read"):
        space_from_file(tmp_path / "none.yaml")
