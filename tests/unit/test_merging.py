"""Merging: every method against closed forms and invariances; directories: what is written, and what is refused."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from foundation.errors import InvalidConfig
from trainer.command import app
from trainer.merging.checkpoint import Checkpoint
from trainer.merging.merge import merge, merge_tensor, uniform
from trainer.merging.methods import MERGE_METHODS, method_named
from trainer.merging.task_vectors import drop, elected_mean, keep_probability, trim

SHAPES = [(6, 8), (5, 1, 3), (7,), (1,), ()]
TASK_VECTORS = [name for name, kind in MERGE_METHODS.items() if kind.needs_base]
seeds = st.integers(0, 2**31)


def draw(seed: int, shape: tuple[int, ...], count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for _ in range(count)]


def merged(name: str, base: Tensor, models: list[Tensor], **parameters: object) -> Tensor:
    method = method_named(name, **parameters)
    method.check(len(models))
    return merge_tensor(method, "x", [base, *models], with_base=True)


# --- closed forms ----------------------------------------------------------------------------------------------------


def test_linear_is_the_weighted_mean() -> None:
    base, a, b = draw(0, (4, 5), 3)
    torch.testing.assert_close(merged("linear", base, [a, b], weights=(3.0, 1.0)), 0.75 * a + 0.25 * b)


def test_slerp_rotates_by_a_share_of_the_angle() -> None:
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0])
    third = merged("slerp", a, [a, b], t=1 / 3)
    torch.testing.assert_close(third, torch.tensor([3**0.5 / 2, 2 * 0.5]))


@pytest.mark.parametrize("factor", [1.0, 2.5, -3.0, 0.0])
def test_slerp_without_a_plane_is_a_straight_line(factor: float) -> None:
    (a,) = draw(1, (4, 3), 1)
    torch.testing.assert_close(merged("slerp", a, [a, factor * a], t=0.25), 0.75 * a + 0.25 * factor * a)


def test_task_arithmetic_adds_scaled_task_vectors() -> None:
    base, a, b = draw(2, (3, 3), 3)
    expected = base + 0.5 * (2 * (a - base) - (b - base))
    torch.testing.assert_close(merged("task_arithmetic", base, [a, b], weights=(2.0, -1.0), scale=0.5), expected)


def test_ties_by_hand() -> None:
    """Of four elements two are kept per model; signs are elected by the sum of what is kept."""
    base = torch.full((4,), 10.0)
    one, two = torch.tensor([4.0, -3.0, 1.0, 0.0]), torch.tensor([-1.0, -5.0, 2.0, 0.0])
    result = merged("ties", base, [base + one, base + two], density=0.5)
    # kept: [4, -3, 0, 0] and [0, -5, 2, 0]; the mean counts only those that agree
    assert result.tolist() == [14.0, 6.0, 12.0, 10.0]


def test_election_and_weights() -> None:
    deltas = torch.tensor([[1.0, 1.0, 2.0], [-2.0, -2.0, 2.0]])
    weights = torch.tensor([3.0, 1.0])
    assert elected_mean(deltas, weights).tolist() == [-2.0, -2.0, 2.0]
    assert elected_mean(deltas, weights, weighted_election=True).tolist() == [1.0, 1.0, 2.0]
    draw_of_signs = torch.tensor([[1.0], [-1.0]])
    assert elected_mean(draw_of_signs, torch.ones(2)).tolist() == [0.0]


@pytest.mark.parametrize("name", ["dare_linear", "della_linear"])
@pytest.mark.parametrize("shape", [(6, 8), (5, 1, 3), (7,)])
def test_what_is_dropped_is_seeded_and_the_rest_rescaled(name: str, shape: tuple[int, ...]) -> None:
    base, model = draw(3, shape, 2)
    delta = model - base
    keep = keep_probability(delta, 0.6, 0.2) if name == "della_linear" else torch.full(shape, 0.6)
    expected = base + torch.where(uniform(7, 0, "x", shape) < keep, delta / keep, 0)
    torch.testing.assert_close(merged(name, base, [model], density=0.6, seed=7), expected)


@pytest.mark.parametrize("rescale", [True, False])
def test_the_mean_over_seeds_is_the_task_vector(rescale: bool) -> None:
    """E[m tau / (1 - p_i)] = tau for every element: what one factor per tensor would not give."""
    delta = torch.tensor([[0.1, -1.0, 3.0], [2.0, 0.5, -0.7]])
    keep = keep_probability(delta, 0.5, 0.6)
    draws = torch.stack([drop(delta, keep, uniform(seed, 0, "x", (2, 3)), rescale) for seed in range(4000)])
    expected = delta if rescale else delta * keep
    assert ((draws.mean(0) - expected).abs() < 5 * draws.std(0) / 4000**0.5).all()


def test_magprune_probabilities_by_hand() -> None:
    """p_i = 0.5 - 0.15 + 0.1 r, r from the largest of its row; a convolution's rows are its channels."""
    row = torch.tensor([0.2, -3.0, 1.0])
    expected = torch.tensor([0.45, 0.65, 0.55])
    for shape in ((3,), (1, 3), (1, 1, 3)):
        torch.testing.assert_close(keep_probability(row.view(shape), 0.5, 0.3), expected.view(shape))
    channels = torch.stack([row, row.flip(0)]).view(2, 1, 3)
    expected_channels = torch.stack([expected, expected.flip(0)]).view(2, 1, 3)
    torch.testing.assert_close(keep_probability(channels, 0.5, 0.3), expected_channels)


# --- properties ------------------------------------------------------------------------------------------------------


@given(seeds, st.sampled_from(SHAPES), st.sampled_from(TASK_VECTORS), st.integers(1, 3))
@settings(deadline=None)
def test_models_equal_to_the_base_change_nothing(seed: int, shape: tuple[int, ...], name: str, count: int) -> None:
    (base,) = draw(seed, shape, 1)
    assert torch.equal(merged(name, base, [base] * count, seed=seed), base)


@given(seeds, st.sampled_from(SHAPES), st.sampled_from(sorted(MERGE_METHODS)))
@settings(deadline=None)
def test_merging_commutes_with_a_change_of_sign(seed: int, shape: tuple[int, ...], name: str) -> None:
    base, a, b = draw(seed, shape, 3)
    result = merged(name, base, [a, b], seed=seed)
    assert torch.equal(merged(name, -base, [-a, -b], seed=seed), -result)


@given(seeds, st.sampled_from(SHAPES), st.sampled_from(["linear", "task_arithmetic", "ties"]))
@settings(deadline=None)
def test_the_order_of_models_does_not_matter(seed: int, shape: tuple[int, ...], name: str) -> None:
    base, *models = draw(seed, shape, 4)
    one = merged(name, base, models, weights=(1.0, 2.0, 3.0))
    torch.testing.assert_close(one, merged(name, base, models[::-1], weights=(3.0, 2.0, 1.0)), atol=2e-6, rtol=2e-6)


@given(seeds, st.sampled_from(SHAPES), st.sampled_from(["dare_linear", "della_linear"]))
@settings(deadline=None)
def test_keeping_everything_is_task_arithmetic(seed: int, shape: tuple[int, ...], name: str) -> None:
    base, a, b = draw(seed, shape, 3)
    everything = {"density": 1.0, "weights": (0.3, 0.9)} | ({"epsilon": 0.0} if "della" in name else {})
    expected = merged("task_arithmetic", base, [a, b], weights=(0.3, 0.9))
    torch.testing.assert_close(merged(name, base, [a, b], **everything), expected)


@given(seeds, st.sampled_from(["ties", "dare_ties", "della"]), st.floats(0.05, 0.9))
@settings(deadline=None)
def test_an_elected_mean_lies_among_the_task_vectors(seed: int, name: str, density: float) -> None:
    base, a, b = draw(seed, (4, 6), 3)
    unscaled = {"density": density} | ({} if name == "ties" else {"rescale": False})
    unscaled |= {"epsilon": 0.05} if name == "della" else {}
    delta = merged(name, torch.zeros_like(base), [a, b], **unscaled)
    low, high = torch.minimum(a, b).clamp(max=0), torch.maximum(a, b).clamp(min=0)
    assert ((low - 1e-6 <= delta) & (delta <= high + 1e-6)).all()


@given(seeds, st.sampled_from(SHAPES), st.floats(0.01, 1))
@settings(deadline=None)
def test_trimming_keeps_the_largest(seed: int, shape: tuple[int, ...], density: float) -> None:
    (delta,) = draw(seed, shape, 1)
    kept = trim(delta, density)
    assert int((kept != 0).sum()) == max(1, int(density * delta.numel()))
    assert kept[kept != 0].abs().min() >= torch.where(kept == 0, delta, 0).abs().max()


@given(seeds, st.sampled_from([(6, 8), (5, 1, 3), (9,)]), st.floats(0.2, 0.7), st.floats(0, 0.4))
@settings(deadline=None)
def test_larger_magnitudes_are_kept_more(seed: int, shape: tuple[int, ...], density: float, epsilon: float) -> None:
    (delta,) = draw(seed, shape, 1)
    keep = keep_probability(delta, density, epsilon)
    rows, kept = delta.reshape(shape[0] if len(shape) > 1 else 1, -1).abs(), keep.reshape(-1, rows_width(shape))
    order = rows.argsort(dim=1)
    assert (kept.gather(1, order).diff(dim=1) >= -1e-6).all()
    assert keep.min() > density - epsilon / 2 - 1e-6
    assert keep.max() <= density + epsilon / 2 + 1e-6


def test_of_equal_magnitudes_the_first_are_kept() -> None:
    assert trim(torch.tensor([1.0, -1.0, 2.0, 1.0, 1.0]), 0.6).tolist() == [1.0, -1.0, 2.0, 0.0, 0.0]


def rows_width(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape[1:] if len(shape) > 1 else shape).numel())


# --- parameters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters", "count", "words"),
    [
        ("soup", {}, 2, "known: linear, slerp"),
        ("ties", {"epsilon": 0.1}, 2, "ties has no parameter epsilon; it takes"),
        ("linear", {"weights": (1.0, -1.0)}, 2, "sum to zero"),
        ("linear", {"weights": (1.0,)}, 2, "1 weights for 2 models"),
        ("slerp", {}, 3, "takes two models, got 3"),
        ("slerp", {"t": 1.5}, 2, r"not in \[0, 1\]"),
        ("dare_ties", {"density": 0.0}, 2, "share of a task vector"),
        ("ties", {"weights": (1.0, -1.0)}, 2, "needs positive ones"),
        ("della", {"density": 0.9, "epsilon": 0.4}, 2, "from 0.7 to 1.1"),
        ("task_arithmetic", {}, 0, "at least one model"),
    ],
)
def test_parameters_that_cannot_work(name: str, parameters: dict[str, object], count: int, words: str) -> None:
    with pytest.raises(InvalidConfig, match=words):
        method_named(name, **parameters).check(count)


# --- directories -----------------------------------------------------------------------------------------------------

WEIGHTS = {
    "model.embed_tokens.weight": (11, 4), "model.layers.0.conv.conv.weight": (4, 1, 3),
    "model.layers.0.conv.in_proj.weight": (12, 4), "model.norm.weight": (4,),
}  # fmt: skip
CONFIG = {"model_type": "lfm2", "architectures": ["Lfm2ForCausalLM"], "hidden_size": 4, "tie_word_embeddings": True}
Maker = Callable[..., Path]


@pytest.fixture
def directory(tmp_path: Path) -> Maker:
    def make(name: str, seed: int, shards: int = 1, dtype: torch.dtype = torch.float32, **changed: object) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        tensors: dict[str, Tensor] = {
            key: value.to(dtype)
            for i, (key, shape) in enumerate(WEIGHTS.items())
            for value in draw(seed * 100 + i, shape, 1)
        }
        tensors["model.steps"] = torch.tensor([3])
        tensors |= changed.get("tensors", {})  # type: ignore[operator]
        for key in changed.get("without", ()):  # type: ignore[attr-defined]
            del tensors[key]
        write(folder, tensors, shards)
        (folder / "config.json").write_text(json.dumps(CONFIG | changed.get("config", {})))  # type: ignore[operator]
        vocabulary = {"a": 0, "b": 1} | changed.get("tokens", {})  # type: ignore[operator]
        (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}, "added_tokens": []}))
        (folder / "optimizer.pt").write_bytes(b"not for others")
        return folder

    return make


def write(folder: Path, tensors: dict[str, Tensor], shards: int) -> None:
    if shards == 1:
        return save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    weight_map = {key: f"model-{1 + i % shards:05d}-of-{shards:05d}.safetensors" for i, key in enumerate(tensors)}
    for shard in set(weight_map.values()):
        held = {key: value for key, value in tensors.items() if weight_map[key] == shard}
        save_file(held, folder / shard, {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return None


def load(folder: Path) -> dict[str, Tensor]:
    return {key: value for path in folder.glob("*.safetensors") for key, value in load_file(path).items()}


@pytest.mark.parametrize("name", MERGE_METHODS)
def test_a_directory_holds_what_its_tensors_give(name: str, directory: Maker, tmp_path: Path) -> None:
    base, a, b = (directory(each, seed) for seed, each in enumerate(("base", "a", "b")))
    method = method_named(name, seed=5)
    record = merge(method, [a, b], tmp_path / "out", base)
    given, result = [load(folder) for folder in (base, a, b)], load(tmp_path / "out")
    assert set(result) == set(given[0])
    for key in WEIGHTS:
        assert torch.equal(result[key], merge_tensor(method, key, [each[key] for each in given], True)), key
    assert result["model.steps"].tolist() == [3]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.json", "merge.json", "model.safetensors", "tokenizer.json",
    ]  # fmt: skip
    assert record["models"][1] == {"name": "b", "sha256": Checkpoint(b).digests()}
    assert json.loads((tmp_path / "out" / "merge.json").read_text())["parameters"]["seed"] == 5


@pytest.mark.parametrize("name", ["ties", "dare_ties", "della_linear"])
def test_sharding_changes_no_value(name: str, directory: Maker, tmp_path: Path) -> None:
    """Not of the inputs, not of the base; what is dropped at random belongs to a tensor's name."""
    whole = [directory(each, seed) for seed, each in enumerate(("base", "a", "b"))]
    split = [directory(f"{each}-split", seed, 3 - seed) for seed, each in enumerate(("base", "a", "b"))]
    method = method_named(name, seed=1)
    merge(method, whole[1:], tmp_path / "one", whole[0])
    merge(method, split[1:], tmp_path / "many", split[0])
    one, many = load(tmp_path / "one"), load(tmp_path / "many")
    assert set(one) == set(many)
    assert all(torch.equal(one[key], many[key]) for key in one)
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(many)
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in many.values())


def test_one_tensor_of_each_model_is_in_memory(
    directory: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, a, b = (directory(each, seed, 1 + seed) for seed, each in enumerate(("base", "a", "b")))
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    read = Checkpoint.read

    def tracked(self: Checkpoint, name: str) -> Tensor:
        value = read(self, name)
        alive.add(value)
        assert len(alive) <= 3
        return value

    monkeypatch.setattr(Checkpoint, "read", tracked)
    merge(method_named("ties"), [a, b], tmp_path / "out", base)


def test_bfloat16_is_rounded_once(directory: Maker, tmp_path: Path) -> None:
    a, b = (directory(each, seed, dtype=torch.bfloat16) for seed, each in enumerate(("a", "b")))
    merge(method_named("linear", weights=(0.3, 0.7)), [a, b], tmp_path / "out")
    ours, (left, right) = load(tmp_path / "out"), (load(a), load(b))
    for key in WEIGHTS:
        assert ours[key].dtype is torch.bfloat16
        exact = 0.3 * left[key].double() + 0.7 * right[key].double()
        torch.testing.assert_close(ours[key].double(), exact, rtol=2**-8, atol=0)


def test_a_tied_head_is_written_once(directory: Maker, tmp_path: Path) -> None:
    """A checkpoint that stores the embedding a second time as head merges with one that does not; dropping at random
    must not tear the two apart."""
    embedding = draw(100, WEIGHTS["model.embed_tokens.weight"], 1)[0]
    base, a = directory("base", 0), directory("a", 1, tensors={"lm_head.weight": embedding.clone()})
    merge(method_named("dare_linear"), [a], tmp_path / "out", base)
    assert "lm_head.weight" not in load(tmp_path / "out")


def test_a_head_of_its_own_is_merged(directory: Maker, tmp_path: Path) -> None:
    heads = draw(9, (11, 4), 2)
    untied = {"tie_word_embeddings": False}
    a, b = (directory(f"m{i}", i, tensors={"lm_head.weight": head}, config=untied) for i, head in enumerate(heads))
    merge(method_named("linear"), [a, b], tmp_path / "out")
    torch.testing.assert_close(load(tmp_path / "out")["lm_head.weight"], (heads[0] + heads[1]) / 2)


NAN = torch.full((4,), float("nan"))
CONV, NORM = "model.layers.0.conv.conv.weight", "model.norm.weight"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"without": [CONV]}, f"b lacks {CONV}, which a has"),
        ({"without": [CONV, NORM]}, f"b lacks {CONV} and 1 more, which a has"),
        ({"tensors": {"model.gate.weight": torch.ones(2)}}, "a lacks model.gate.weight, which b has"),
        ({"tensors": {CONV: torch.ones(4, 1, 5)}}, r"\[4, 1, 5\] in b and F32 \[4, 1, 3\] in a"),
        ({"tensors": {"model.steps": torch.tensor([4])}}, "model.steps is no floating-point tensor and differs"),
        ({"tensors": {NORM: NAN}}, f"{NORM} of b holds NaN or infinity"),
        ({"tensors": {"lm_head.weight": torch.ones(11, 4)}}, "a lacks lm_head.weight, which b has"),
        ({"config": {"hidden_size": 8}}, r"differ in hidden_size of config.json \(8, 4\)"),
        ({"tokens": {"c": 2}}, r"differ, first at token 'c' \(2, None\)"),
    ],
)
def test_what_differs_is_named_and_nothing_is_written(
    changed: dict[str, object], words: str, directory: Maker, tmp_path: Path
) -> None:
    a, b = directory("a", 0), directory("b", 1, **changed)
    with pytest.raises(InvalidConfig, match=words):
        merge(method_named("linear"), [a, b], tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_cut_shard_is_named(directory: Maker, tmp_path: Path) -> None:
    a, b = directory("a", 0), directory("b", 1, 2)
    shard = b / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(InvalidConfig, match=r"00002-of-00002.safetensors has \d+ bytes, its header promises \d+"):
        merge(method_named("linear"), [a, b], tmp_path / "out")
    shard.write_bytes(b"\x08")
    with pytest.raises(InvalidConfig, match="is no whole safetensors file"):
        merge(method_named("linear"), [a, b], tmp_path / "out")


def test_results_that_overflow_stop(directory: Maker, tmp_path: Path) -> None:
    large = {"tensors": {NORM: torch.full((4,), 60000.0, dtype=torch.float16)}}
    base = directory("base", 0, dtype=torch.float16)
    a, b = (directory(f"m{i}", i, dtype=torch.float16, **large) for i in (1, 2))
    with pytest.raises(InvalidConfig, match=f"{NORM} leaves the range of F16"):
        merge(method_named("task_arithmetic"), [a, b], tmp_path / "out", base)
    assert not (tmp_path / "out").exists()


def test_what_merge_needs_beforehand(directory: Maker, tmp_path: Path) -> None:
    a = directory("a", 0)
    for arguments, words in (
        ((method_named("ties"), [a], tmp_path / "out"), "give the model that all others came from"),
        ((method_named("linear"), [a], a), "exists; give a directory that does not"),
        ((method_named("linear"), [tmp_path], tmp_path / "out"), "config.json cannot be read"),
    ):
        with pytest.raises(InvalidConfig, match=words):
            merge(*arguments)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InvalidConfig, match="give a Hugging Face directory"):
        merge(method_named("linear"), [tmp_path], tmp_path / "out")


def test_the_command(directory: Maker, tmp_path: Path) -> None:
    base, a, b = (str(directory(each, seed)) for seed, each in enumerate(("base", "a", "b")))
    call = ["merge", "ties", str(tmp_path / "out"), a, b, "--base", base, "--weights", "0.7,0.3", "--density", "0.5"]
    done = CliRunner().invoke(app, [*call, "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    parameters = json.loads(done.stdout)["parameters"]
    assert (parameters["weights"], parameters["density"], parameters["scale"]) == ([0.7, 0.3], 0.5, 1.0)
    with pytest.raises(InvalidConfig, match=r"--weights '1;2' is no list of numbers; give one per model, e.g. 0.7,0.3"):
        CliRunner().invoke(app, ["merge", "linear", str(tmp_path / "x"), a, "--weights", "1;2"], catch_exceptions=False)


def test_what_a_killed_merge_left_is_no_obstacle(directory: Maker, tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "stale").write_text("")
    merge(method_named("linear"), [directory("a", 0)], tmp_path / "out")
    assert not (tmp_path / "out" / "stale").exists()
