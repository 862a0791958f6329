"""A parent in one file: what rounding does, what ships, and that importing it leaves nothing to learn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from contracts.study import QualitySpec, StudySpec
from foundation.errors import HilnasError, InvalidConfig
from nas.parent.activations import parent_digest
from nas.parent.alternatives import Alternative, alternatives_of, as_inherited, contribution, positions, start
from nas.parent.judge import HeldOut
from nas.parent.learn import BlockStore, LearntBlock, error_of, given_key
from nas.parent.packaged import FILES, PackagedParent, packaged, packaged_names, restored, rounded
from nas.parent.store import Parent, ParentText
from nas.quality.contract import estimator
from nas.starters import starters
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from search_space.modeling.model import build_model
from search_space.space import space
from search_space.space.around import around_arch, windowed

ARCH = ArchConfig(64, 120, (LayerConfig(Gqa(2, 2, 32), SwiGLU(96)),) * 2, rope_theta=10_000.0)
CONV = Alternative(1, "mixer", mixer=GatedShortConv(3))
WINDOW = Alternative(0, "mixer", mixer=windowed(Gqa(2, 2, 32), 8))
MOST_BYTES = 6_000_000


def small() -> PackagedParent:
    """Random weights, one learnt block and one that is inherited."""
    parent = build_model(ARCH, seed=0)
    weights = {name: value for name, value in parent.state_dict().items() if name != "lm_head.weight"}
    learnt = start(CONV, parent.model.layers[1], ARCH).state_dict()  # type: ignore[arg-type]
    text = ParentText(np.arange(100, dtype=np.uint16), np.arange(50, dtype=np.uint16), np.ones(120, np.int32))
    blocks = {
        one: (LearntBlock("", one.to_dict(), one.label, 0.1, 0.2, steps, 1.0), kept)
        for one, steps, kept in ((CONV, 5, restored(rounded(learnt))), (WINDOW, 0, {}))
    }
    return PackagedParent(ARCH, restored(rounded(weights)), blocks, text, "{}", {"origin": "here", "texts": []})


def test_rows_are_off_by_half_a_step_at_most() -> None:
    value = torch.randn(40, 64, generator=torch.Generator().manual_seed(0)) * torch.logspace(-4, 2, 40)[:, None]
    back = restored(rounded({"w": value, "norm": torch.linspace(0.1, 2, 64), "kernel": value[:, :3]}))
    step = value.abs().amax(1, keepdim=True) / 127
    assert ((back["w"] - value).abs() <= 0.501 * step).all()
    torch.testing.assert_close(back["kernel"], value[:, :3], rtol=1e-3, atol=1e-7)
    assert back.keys() == {"w", "norm", "kernel"} and back["norm"].dtype == torch.float32


def test_rounded_weights_round_to_themselves() -> None:
    weights = small().weights
    again = restored(rounded(weights))
    assert all(torch.equal(again[name], value) for name, value in weights.items())


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    one = small()
    one.save(tmp_path / "one.safetensors")
    there = PackagedParent.load(tmp_path / "one.safetensors")
    assert parent_digest(there.model()) == parent_digest(one.model()) and there.given == one.given
    assert (there.arch, there.tokenizer, there.about) == (one.arch, one.tokenizer, one.about)
    assert there.blocks.keys() == {CONV, WINDOW} and there.blocks[CONV][0].error == 0.1
    assert np.array_equal(there.text.held_out, one.text.held_out)
    other = replace(one, blocks={CONV: (one.blocks[CONV][0], {**one.blocks[CONV][1], "x": torch.ones(1)})})
    assert other.given != one.given


def test_a_window_is_put_with_the_parents_weights(tmp_path: Path) -> None:
    one, store = small(), BlockStore(tmp_path)
    model = one.model()
    one.put_blocks(store, model, "digest")
    kept = store.weights(given_key("digest", WINDOW))
    assert torch.equal(kept["mixer.q_proj.weight"], model.model.layers[0].mixer.q_proj.weight)  # type: ignore[union-attr]
    assert store.get(given_key("other", WINDOW)) is None
    bare = replace(one, blocks={CONV: (one.blocks[CONV][0], {})})
    with pytest.raises(InvalidConfig, match=r"layer 1: the file holds no weights for gated_short_conv\(k3\)"):
        bare.put_blocks(store, model, "digest")


def test_a_file_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes((FILES / "tiny-2m.safetensors").read_bytes()[:5000])
    with pytest.raises(InvalidConfig, match="cut.safetensors holds no packaged parent"):
        PackagedParent.load(tmp_path / "cut.safetensors")
    with pytest.raises(InvalidConfig, match="unknown packaged parent 'tiny-3m'; known: tiny-2m"):
        packaged("tiny-3m")


def test_what_ships_is_small_complete_and_says_where_it_is_from() -> None:
    assert packaged_names() == ["tiny-2m"]
    assert (FILES / "tiny-2m.safetensors").stat().st_size <= MOST_BYTES
    one = packaged("tiny-2m")
    choices = around_arch("tiny", one.arch, windows=(64, 128, 256, 512)).choices
    wanted = [alt for index, layer in enumerate(choices) for alt in alternatives_of(index, layer.mixers, layer.ffns)]
    assert one.blocks.keys() == {alternative for alternative in wanted if not alternative.absent}
    assert all(entry["licence"] and entry["holder"] for entry in one.about["texts"])
    assert max(one.text.train.max(), one.text.held_out.max()) < one.arch.vocab_size == len(one.text.num_bytes)
    inherited = [alternative for alternative in one.blocks if as_inherited(alternative, one.arch.layers[0])]
    better = [block for block, _ in one.blocks.values() if block.error < block.start_error]
    assert len(inherited) == 40 and len(better) >= 0.95 * (len(one.blocks) - len(inherited))


def test_errors_are_those_of_the_weights_that_ship() -> None:
    one = packaged("tiny-2m")
    model = one.model()
    x_BTD = model.model.embed_tokens(torch.as_tensor(HeldOut.cut(one.text.held_out, one.text.num_bytes, 1024, 8).rows))
    x_BTD = x_BTD[:, :-1].detach()
    added_BTD = contribution(model.model.layers[0], "mixer", x_BTD, positions(x_BTD)).detach()  # type: ignore[arg-type]
    for alternative in (Alternative(0, "mixer", mixer=GatedShortConv(7)), Alternative(0, "mixer", mixer=Gqa(4, 1, 32))):
        block, weights = one.blocks[alternative]
        layer = start(alternative, model.model.layers[0], one.arch)  # type: ignore[arg-type]
        layer.load_state_dict(weights)
        assert error_of(layer, "mixer", [x_BTD, added_BTD]) == pytest.approx(block.error, rel=1e-3)


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from hilnas.cli.parent import app

    monkeypatch.setenv("HILNAS_VAR", str(tmp_path / "var"))
    done = CliRunner().invoke(app, ["import", "tiny", "tiny-2m", "--json"])
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout.strip().splitlines()[-1])
    assert (shown["blocks"], shown["tokens"]) == (90, {"train": 200_000, "held_out": 50_000})
    return "tiny"


def test_candidates_are_judged_with_what_came_with_the_parent(imported: str) -> None:
    """Nothing is learned: no activations are collected."""
    from transformers import AutoTokenizer

    parent = Parent(imported)
    assert parent.record.digest == parent_digest(parent.model()) == parent_digest(packaged("tiny-2m").model())
    assert AutoTokenizer.from_pretrained(parent.folder).eos_token == "<|endoftext|>"
    options = {"parent": imported, "lengths": [128], "held_out_rows": 4, "retrieval": False}
    judge, of = estimator(QualitySpec(estimator="inherited", options=options)), space("around", {"parent": imported})
    study = StudySpec(name="s", space="around", space_options={"parent": imported}, objectives=[{"metric": "params"}])  # type: ignore[list-item]
    assert starters(study, of) == [(imported, parent.model().config.to_arch())]
    assert starters(study.model_copy(update={"start_with": []}), of) == []
    own = {name: labels[0] for name, labels in of.parameters().items()}
    found = judge.judge(of.decode({**own, "layer_04.mixer": "gated_short_conv(k3)", "layer_02.ffn": "192"}))
    assert found.details["parent_bits_per_byte"] < found.score < 2.5
    assert not list(parent.folder.glob("activations-*"))
    assert judge.key.endswith(parent.record.given[:8])


def test_other_text_than_what_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hilnas.parents import import_parent

    monkeypatch.setenv("HILNAS_VAR", str(tmp_path / "var"))
    import_parent("topics", "tiny-2m", ["python:topics"], 20_000)
    assert Parent("topics").record.texts == ["python:topics"] and len(Parent("topics").text.train) < 40_000
    import_parent("bare", "tiny-2m", [])
    with pytest.raises(InvalidConfig, match="was imported without text"):
        _ = Parent("bare").text
    with pytest.raises(InvalidConfig, match=r"'tiny-3m' is neither a parent that comes with hilnas \(tiny-2m, smollm2"):
        import_parent("x", "tiny-3m")


def test_the_demo_imports_its_parent_once_or_says_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hilnas import demo

    monkeypatch.setattr(demo, "SOURCE", "tiny-3m")
    with pytest.raises(HilnasError, match="the demo's parent was not imported: 'tiny-3m' is neither a parent that"):
        demo.import_parent(tmp_path)
    monkeypatch.setattr(demo, "SOURCE", "tiny-2m")
    demo.import_parent(tmp_path)
    made = (tmp_path / "parents/tiny/parent.json").stat().st_mtime_ns
    monkeypatch.setattr(demo, "SOURCE", "none")
    demo.import_parent(tmp_path)
    assert (tmp_path / "parents/tiny/parent.json").stat().st_mtime_ns == made
