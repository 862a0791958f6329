"""Around a parent: inherited weights, learnt blocks, composed candidates, and what they are judged by."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from contracts.study import QualitySpec
from foundation.errors import InvalidConfig
from nas.parent.activations import collect
from nas.parent.alternatives import Alternative, alternatives_of, as_inherited, contribution, positions, start
from nas.parent.assemble import assemble, replaced
from nas.parent.distil import DistilSettings, distil, divergence
from nas.parent.judge import HeldOut, Reader, difference, judgement
from nas.parent.learn import BlockStore, LearnSettings, learn_all, weights_of
from nas.parent.retrieval import CUE, STRETCH, retrieval_task, retrieve
from nas.quality.contract import estimator
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa, Skip, SlidingWindow
from search_space.modeling.model import HilnasForCausalLM, build_model
from search_space.space import space
from search_space.space.around import around_arch, ffn_choices, mixer_choices, windowed

ATTENTION, FFN = Gqa(2, 2, 32), SwiGLU(96)
ARCH = ArchConfig(64, 120, (LayerConfig(ATTENTION, FFN),) * 3, rope_theta=10_000.0)
ROWS = np.random.default_rng(0).integers(120, size=(12, 48))
X_BTD = torch.randn(2, 48, 64, generator=torch.Generator().manual_seed(0))
STREAM = np.random.default_rng(1).integers(120, size=4000)
ONE_BYTE = np.ones(120, np.int32)


@pytest.fixture(scope="module")
def parent() -> HilnasForCausalLM:
    model = build_model(ARCH, seed=0).eval()
    with torch.no_grad():
        for value in model.model.layers.parameters():
            value.mul_(6.0) if value.dim() > 1 else None
        model.model.embed_tokens.weight.mul_(10.0)
    return model


def added(layer: object, part: str) -> torch.Tensor:
    return contribution(layer, part, X_BTD, positions(X_BTD)).detach()  # type: ignore[arg-type]


def test_the_choices_of_a_layer_begin_with_the_parents() -> None:
    mixers = mixer_choices(Gqa(8, 4, 32, qk_norm=False), windows=(64, 256), kernels=(3,))
    assert [mixer.label for mixer in mixers] == [
        "gqa(8/4x32,no-qk-norm)", "gqa(8/2x32,no-qk-norm)", "gqa(8/1x32,no-qk-norm)",
        "sliding_window(8/4x32,no-qk-norm,w64)", "sliding_window(8/4x32,no-qk-norm,w256)", "gated_short_conv(k3)",
        "skip",
    ]  # fmt: skip
    assert mixer_choices(SlidingWindow(8, 4, 32, window=64), windows=(64, 32))[-4].label.endswith("w32)")
    assert mixer_choices(Skip()) == (Skip(),)
    assert [ffn.width if ffn else 0 for ffn in ffn_choices(SwiGLU(384, "gelu_tanh"))] == [384, 192, 96, 0]
    assert ffn_choices(SwiGLU(32)) == (SwiGLU(32), None)


def test_a_space_around_a_parent_holds_it() -> None:
    found = around_arch("around it", replace(ARCH, norm_eps=1e-6), windows=(8,))
    assert found.decode(found.encode(replace(ARCH, norm_eps=1e-6))) == replace(ARCH, norm_eps=1e-6)
    assert found.parameters()["layer_02.ffn"] == ("96", "64", "32", "0") or len(found.parameters()) == 6
    with pytest.raises(InvalidConfig, match="between 0 and 1, got 2"):
        around_arch("x", ARCH, shares=(2,))


def test_a_window_as_long_as_the_text_adds_what_the_parent_adds(parent: HilnasForCausalLM) -> None:
    theirs = parent.model.layers[1]
    wide = Alternative(1, "mixer", mixer=windowed(ATTENTION, 48))
    assert as_inherited(wide, ARCH.layers[1])
    torch.testing.assert_close(added(start(wide, theirs, ARCH), "mixer"), added(theirs, "mixer"))  # type: ignore[arg-type]
    narrow = start(Alternative(1, "mixer", mixer=windowed(ATTENTION, 4)), theirs, ARCH)  # type: ignore[arg-type]
    assert (added(narrow, "mixer") - added(theirs, "mixer")).abs().max() > 1e-3


def test_pooled_heads_equal_the_parent_where_its_heads_are_equal(parent: HilnasForCausalLM) -> None:
    theirs = build_model(ARCH, seed=1).model.layers[0]
    with torch.no_grad():
        for name in ("k_proj", "v_proj"):
            weight = getattr(theirs.mixer, name).weight  # type: ignore[union-attr]
            weight[32:] = weight[:32]
    pooled = start(Alternative(0, "mixer", mixer=replace(ATTENTION, num_kv_heads=1)), theirs, ARCH)  # type: ignore[arg-type]
    torch.testing.assert_close(added(pooled, "mixer"), added(theirs, "mixer"), atol=1e-5, rtol=1e-4)
    with pytest.raises(InvalidConfig, match="give the same heads"):
        start(Alternative(0, "mixer", mixer=Gqa(4, 2, 16)), theirs, ARCH)  # type: ignore[arg-type]


def test_a_narrower_feed_forward_keeps_the_channels_that_matter() -> None:
    theirs = build_model(ARCH, seed=1).model.layers[0]
    used = torch.randperm(96, generator=torch.Generator().manual_seed(3))[:32]
    with torch.no_grad():
        idle = torch.ones(96, dtype=torch.bool)
        idle[used] = False
        theirs.ffn.w2.weight[:, idle] = 0  # type: ignore[union-attr]
    narrow = start(Alternative(0, "ffn", ffn=SwiGLU(32)), theirs, ARCH)  # type: ignore[arg-type]
    torch.testing.assert_close(added(narrow, "ffn"), added(theirs, "ffn"))


def test_activations_are_bounded_and_made_once(parent: HilnasForCausalLM, tmp_path: Path) -> None:
    kept = collect(parent, ROWS, tmp_path / "a", at_once=5)
    made = (tmp_path / "a/meta.json").stat().st_mtime_ns
    x, y = kept.pair(1, "ffn")
    assert x.shape == (12, 48, 64) and isinstance(x, np.memmap)
    out = contribution(parent.model.layers[1], "ffn", torch.tensor(np.array(x)).float(), positions(torch.tensor(x)))  # type: ignore[arg-type]
    torch.testing.assert_close(out.detach(), torch.tensor(np.array(y)).float(), atol=5e-3, rtol=5e-3)
    assert collect(parent, ROWS, tmp_path / "a").digest == kept.digest
    assert (tmp_path / "a/meta.json").stat().st_mtime_ns == made
    with pytest.raises(InvalidConfig, match="tokens fit"):
        collect(parent, ROWS, tmp_path / "b", max_bytes=1000)
    assert not (tmp_path / "b").exists()


def test_blocks_learn_are_kept_and_make_a_candidate(parent: HilnasForCausalLM, tmp_path: Path) -> None:
    activations, store = collect(parent, ROWS, tmp_path / "a"), BlockStore(tmp_path / "blocks")
    mixers = (ATTENTION, replace(ATTENTION, num_kv_heads=1), windowed(ATTENTION, 8), GatedShortConv(3), Skip())
    alternatives = alternatives_of(1, mixers, (FFN, SwiGLU(32), None))
    settings = LearnSettings(steps=40, rows=4, warmup=4, held_out=2)
    blocks = learn_all(parent, alternatives, activations, store, settings)
    assert {one.label for one in alternatives} - {one.label for one in blocks} == {"skip", "0"}
    for one, block in blocks.items():
        assert block.error < block.start_error or (block.steps == 0 and one.label.endswith("w8)"))
    files = {path: path.stat().st_mtime_ns for path in store.folder.iterdir()}
    assert learn_all(parent, alternatives, activations, store, settings) == blocks
    assert {path: path.stat().st_mtime_ns for path in store.folder.iterdir()} == files

    layers = (ARCH.layers[0], LayerConfig(GatedShortConv(3), SwiGLU(32)), LayerConfig(Skip(), None))
    arch = replace(ARCH, layers=layers)
    assert [one.label for one in replaced(arch, ARCH)] == ["gated_short_conv(k3)", "32", "skip", "0"]
    candidate = assemble(arch, parent, weights_of(store, blocks))
    assert candidate.config.to_arch() == arch and candidate.lm_head.weight is candidate.model.embed_tokens.weight
    ids = torch.tensor(ROWS[:2])
    with torch.no_grad():
        by_hand = parent.model.embed_tokens(ids)
        by_hand = parent.model.layers[0](by_hand, positions(by_hand), None, 0)
        by_hand = candidate.model.layers[1](by_hand, positions(by_hand), None, 0)
        expected = parent.lm_head(parent.model.norm(by_hand))
        torch.testing.assert_close(candidate(ids, use_cache=False).logits, expected)
    with pytest.raises(InvalidConfig, match="layer 0: no learnt block for gated_short_conv"):
        assemble(replace(ARCH, layers=(layers[1], *ARCH.layers[1:])), parent, weights_of(store, blocks))
    with pytest.raises(InvalidConfig, match="has norm_eps"):
        replaced(replace(ARCH, norm_eps=0.1), ARCH)


def test_the_parent_composed_of_itself_differs_in_nothing(parent: HilnasForCausalLM) -> None:
    text = HeldOut.cut(STREAM, ONE_BYTE, 64, 5)
    readers = [Reader(parent, text.shorter(32), 3), Reader(parent, text, 2)]
    row = judgement(readers, assemble(ARCH, parent, {}))
    assert row["divergence@64"] == pytest.approx(0, abs=1e-9) and row["difference@64"] == pytest.approx([0, 0, 0])
    assert row["by_position"].keys() == {"0-64"}
    own = readers[1]
    nats = torch.nn.functional.cross_entropy(
        parent(torch.tensor(text.rows[:, :-1]), use_cache=False).logits.flatten(0, 1),
        torch.tensor(text.rows[:, 1:]).flatten(),
    )
    assert own.bits_per_byte(own.own) == pytest.approx(nats.item() / np.log(2), rel=1e-5)
    assert text.shorter(32).rows.shape == (10, 33)
    with pytest.raises(InvalidConfig, match="give a divisor"):
        text.shorter(48)
    with pytest.raises(InvalidConfig, match="rows fit"):
        HeldOut.cut(STREAM, ONE_BYTE, 4000, 2)


def test_an_interval_is_students() -> None:
    gap = difference(np.array([1.0, 2.0, 3.0]))
    assert (gap.mean, gap.high) == (2.0, pytest.approx(2 + 4.303 / 3**0.5, rel=1e-4))
    with pytest.raises(InvalidConfig, match="two rows"):
        difference(np.array([1.0]))


def test_distillation_brings_a_candidate_nearer(parent: HilnasForCausalLM) -> None:
    arch = replace(ARCH, layers=(ARCH.layers[0], LayerConfig(Skip(), FFN), ARCH.layers[2]))
    candidate, ids = assemble(arch, parent, {}), torch.tensor(ROWS)
    before = divergence(candidate, parent, ids).item()
    weights = {name: value.clone() for name, value in parent.state_dict().items()}
    distil(candidate, parent, STREAM, DistilSettings(steps=60, rows=16, length=48, learning_rate=1e-2))
    assert divergence(candidate, parent, ids).item() < 0.9 * before
    assert all(torch.equal(value, weights[name]) for name, value in parent.state_dict().items())


def test_a_retrieval_row_repeats_its_stretch(parent: HilnasForCausalLM) -> None:
    task = retrieval_task(STREAM, 128, (40, 90), 3)
    for row, distance in zip(task.rows, task.distances, strict=True):
        assert (row[-STRETCH:] == row[-STRETCH - distance :][:STRETCH]).all()
    assert retrieve(parent, task).keys() == {"accuracy", "nats"}
    assert STRETCH > CUE
    with pytest.raises(InvalidConfig, match="32 to 96 would work"):
        retrieval_task(STREAM, 128, (100,), 1)


def test_an_imported_parent_is_listed_searched_and_judged(imported: str, tmp_path: Path) -> None:
    from hilnas.cli.parent import app

    assert '"family": "llama"' in CliRunner().invoke(app, ["list", "--json"]).output
    assert "2L d64 2 gqa" in CliRunner().invoke(app, ["show", "tiny"]).output
    found = space("around", {"parent": "tiny", "windows": [16]})
    with pytest.raises(InvalidConfig, match="unknown parent 'other'; known: tiny, untrained"):
        space("around", {"parent": "other"})

    options = {"parent": "tiny", "lengths": [64, 128], "calibration_rows": 8, "calibration_length": 64, "steps": 5}
    judge = estimator(QualitySpec(estimator="inherited", options=options))
    parameters = {name: labels[0] for name, labels in found.parameters().items()}
    own = judge.judge(found.decode(parameters))
    assert own.metric == "bits_per_byte" and own.low == own.score == own.high
    worse = judge.judge(found.decode({**parameters, "layer_00.mixer": "gated_short_conv(k3)", "layer_01.ffn": "0"}))
    assert worse.low <= worse.score <= worse.high and worse.details["replaced"] == 2
    assert worse.details["block_errors"].keys() == {"0.mixer=gated_short_conv(k3)"}
    again = judge.judge(found.decode({**parameters, "layer_00.mixer": "gated_short_conv(k3)", "layer_01.ffn": "0"}))
    assert again.score == worse.score
    longer = estimator(QualitySpec(estimator="inherited", options={**options, "distil_steps": 2}))
    assert longer.key != judge.key and "distillation" in longer.judge(found.decode(parameters)).fidelity


def test_blocks_are_learned_ahead_of_a_search(imported: str) -> None:
    from hilnas.cli.parent import app

    few = ["--kernel", "3", "--share", "0.5", "--window", "16", "--steps", "5", "--calibration-rows", "8"]
    words = ["learn", imported, *few, "--calibration-length", "64"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "8 of 8: layer" in done.output and "gated_short_conv(k3), error" in done.output
    store = BlockStore(Path(os.environ["HILNAS_VAR"]) / "parents" / imported / "blocks")
    made = {path: path.stat().st_mtime_ns for path in store.folder.glob("*.json")}
    assert len(made) == 8  # one key-value head, a window, a convolution, half a feed-forward, in two layers
    assert CliRunner().invoke(app, words).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in store.folder.glob("*.json")} == made
    options = {"parent": imported, "lengths": [64, 128], "calibration_rows": 8, "calibration_length": 64, "steps": 5}
    found = space("around", {"parent": imported, "windows": [16], "kernels": [3], "shares": [0.5]})
    estimator(QualitySpec(estimator="inherited", options=options)).judge(found.decode(found.sample(random.Random(0))))
    assert {path: path.stat().st_mtime_ns for path in store.folder.glob("*.json")} == made  # a search finds them
    assert "between 0 and 1, got 2" in str(CliRunner().invoke(app, ["learn", imported, "--share", "2"]).exception)


def test_a_parent_that_learned_nothing_is_refused(imported: str) -> None:
    options = {"parent": "untrained", "lengths": [64], "calibration_rows": 8, "calibration_length": 64, "steps": 5}
    of = space("around", {"parent": "untrained"})
    with pytest.raises(InvalidConfig, match="the frequency of tokens alone gives"):
        estimator(QualitySpec(estimator="inherited", options=options)).judge(of.decode(of.sample(random.Random(0))))


def test_an_estimator_without_its_parent_says_what_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HILNAS_VAR", str(tmp_path))
    with pytest.raises(InvalidConfig, match="unknown parent ''; known: none"):
        estimator(QualitySpec(estimator="inherited"))


def test_a_machine_with_torch_and_transformers_alone_can_run_it() -> None:
    """The landscape's import chain brings none of what such a machine lacks."""
    lacking = ("pydantic", "optuna", "executorch", "contracts", "trainer", "rich", "typer")
    code = f"import sys, benchmarks.landscape; print([name for name in {lacking} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    left = done.stdout.strip().splitlines()[-1]
    assert not {"optuna", "contracts", "trainer"} & set(eval(left))  # transformers itself may bring others
