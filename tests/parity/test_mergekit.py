"""Merging against mergekit on random Lfm2 checkpoints; where mergekit is wrong, against closed forms."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Lfm3ForCausalLM

from benchmarks.merging import (
    CASES,
    Case,
    compared,
    della_on_convolutions,
    lfm2_model,
    lfm3_model,
    linear_on_lfm3,
    load,
    mergekit_directory,
    save,
)
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from search_space.modeling.model import HilnasForCausalLM, build_model
from trainer.merging.merge import merge
from trainer.merging.methods import MERGE_METHODS, method_named

TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def lfm2(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("lfm2")
    return [save(lfm2_model(seed), folder / str(seed)) for seed in range(3)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.method}, {case.variant}")
def test_equal_to_mergekit(case: Case, lfm2: list[Path], tmp_path: Path) -> None:
    row = compared(case, lfm2, tmp_path / "out")
    assert row["tensors"] == len(load(lfm2[0]))
    assert row["max_difference"] <= TOLERANCE


def test_every_method_is_compared() -> None:
    assert {case.method for case in CASES} == set(MERGE_METHODS)


def test_the_comparison_would_notice(lfm2: list[Path], tmp_path: Path) -> None:
    """At unequal weights the election of the papers is not that of mergekit."""
    half = {"density": 0.5}
    case = Case("ties", "unweighted election", "mergekit, directory", {**half, "weights": (0.7, 0.4)}, half)
    assert compared(case, lfm2, tmp_path / "out")["max_difference"] > 1e-2


def test_bfloat16_differs_by_rounding_only(tmp_path: Path) -> None:
    """Not shown for TIES: bfloat16 task vectors often draw an election, where mergekit takes the positive ones and the
    formula (gamma = 0) none."""
    folders = [save(lfm2_model(seed).to(torch.bfloat16), tmp_path / str(seed)) for seed in range(3)]
    case = Case("task_arithmetic", "bfloat16", "mergekit, directory", {"scale": 0.7}, {"lambda": 0.7})
    merge(method_named(case.method, **case.ours), folders[1:], tmp_path / "ours", folders[0])
    ours, theirs = load(tmp_path / "ours"), mergekit_directory(case, folders, tmp_path / "theirs", "bfloat16")
    for name, value in ours.items():
        assert value.dtype is theirs[name].dtype is torch.bfloat16
        torch.testing.assert_close(value.float(), theirs[name].float(), rtol=2**-7, atol=0)


# --- where mergekit is wrong: a version of it that is right should turn these red ------------------------------------


def test_della_on_convolutions(lfm2: list[Path], tmp_path: Path) -> None:
    row = della_on_convolutions(lfm2, tmp_path / "della")
    assert "p_in" in row["mergekit"]
    assert row["tensors"] == 3
    assert row["max_difference"] <= TOLERANCE


def test_lfm3_keeps_its_attention_gates(tmp_path: Path) -> None:
    row = linear_on_lfm3(tmp_path)
    assert row["mergekit"] == "writes 48 of 50 tensors"
    assert row["max_difference"] <= TOLERANCE
    _, info = Lfm3ForCausalLM.from_pretrained(tmp_path / "lfm3-ours", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]


# --- what comes out is a model --------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("make", [lfm2_model, lfm3_model])
def test_a_merged_directory_loads_with_the_mean_of_the_weights(make, tmp_path: Path) -> None:
    models = [make(seed) for seed in range(2)]
    merge(method_named("linear"), [save(m, tmp_path / str(i)) for i, m in enumerate(models)], tmp_path / "out")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    for ours, one, two in zip(loaded.parameters(), *(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(ours, (one + two) / 2)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight


@torch.no_grad()
def test_our_own_models_merge(tmp_path: Path) -> None:
    """Widths differ per layer: nothing in merging knows the architecture."""
    layers = (LayerConfig(GatedShortConv(3), SwiGLU(96)), LayerConfig(Gqa(4, 2, 16), SwiGLU(64)))
    models = [build_model(ArchConfig(64, 90, layers), seed=seed).eval() for seed in range(3)]
    base, one, two = (save(model, tmp_path / str(i)) for i, model in enumerate(models))
    merge(method_named("task_arithmetic", weights=(0.0, 1.0)), [one, two], tmp_path / "out", base)
    ids = torch.randint(0, 90, (1, 12), generator=torch.Generator().manual_seed(0))
    merged = HilnasForCausalLM.from_pretrained(tmp_path / "out").eval()
    torch.testing.assert_close(merged(ids).logits, models[2](ids).logits, atol=1e-5, rtol=0)
