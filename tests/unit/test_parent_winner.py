"""A winner around a parent: exported with the weights that it was judged with, and healed by its parent."""

from __future__ import annotations

import random
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch

from contracts.job import TrainJob
from contracts.study import QualitySpec
from foundation.errors import InvalidConfig
from foundation.files import file_digest
from nas.export.eager_program import EagerProgram
from nas.export.judged import export_judged
from nas.export.modules import deploy
from nas.quality.contract import estimator
from search_space.arch import ArchConfig
from search_space.modeling.model import HilnasForCausalLM
from search_space.space import space
from trainer.pipeline.chain import run_recipe
from trainer.recipes import recipe_named
from trainer.runs.weights import with_weights

OPTIONS = {"lengths": [64, 128], "calibration_rows": 8, "calibration_length": 64, "steps": 5, "held_out_rows": 3}


def winner_of(parent: str) -> tuple[ArchConfig, QualitySpec]:
    found = space("around", {"parent": parent, "windows": [16]})
    first = {name: labels[0] for name, labels in found.parameters().items()}
    arch = found.decode({**first, "layer_00.mixer": "gated_short_conv(k3)"})
    return arch, QualitySpec(estimator="inherited", options={"parent": parent, **OPTIONS})


@pytest.fixture
def winner(imported: str) -> tuple[ArchConfig, QualitySpec]:
    return winner_of(imported)


def exported(winner: tuple[ArchConfig, QualitySpec], root: Path, quantization: str) -> dict[str, Any]:
    arch, spec = winner
    return export_judged(str(root), spec.model_dump(), arch.to_dict(), quantization)


def test_a_winner_is_exported_with_the_weights_that_were_judged(
    winner: tuple[ArchConfig, QualitySpec], tmp_path: Path, one_thread: None
) -> None:
    arch, spec = winner
    plain = exported(winner, tmp_path, "fp32")
    judge = estimator(spec)
    judged = judge.judge(arch)
    assert plain["quality"]["score"] == pytest.approx(judged.score, abs=1e-4)
    assert plain["quality"]["low"] <= plain["quality"]["score"] <= plain["quality"]["high"]
    assert plain["check"]["tokens"][:3] == judge.real_tokens(arch, 3)  # type: ignore[attr-defined]
    assert (tmp_path / "blocks" / f"{plain['digest']}.pte").exists()

    rounded = exported(winner, tmp_path, "8da4w")
    assert rounded["digest"] != plain["digest"] and rounded["quality"]["score"] != plain["quality"]["score"]
    assert rounded["weights"] == plain["weights"]
    assert exported(winner, tmp_path, "8da4w") == rounded  # not made again


def test_the_program_reads_what_the_judged_model_reads(
    winner: tuple[ArchConfig, QualitySpec], tmp_path: Path, one_thread: None
) -> None:
    arch, spec = winner
    exported(winner, tmp_path, "fp32")
    (folder,) = [path for path in (tmp_path / "judged").iterdir() if path.is_dir()]
    model = HilnasForCausalLM.from_pretrained(folder).eval()
    ids_T = torch.tensor(estimator(spec).real_tokens(arch, 600))  # type: ignore[attr-defined]
    program = EagerProgram(deploy(model, "fp32"), arch)
    with torch.no_grad():
        expected_TV = model(ids_T[None]).logits[0]
    torch.testing.assert_close(program.logits(ids_T), expected_TV, atol=1e-4, rtol=0)  # over two chunks
    torch.testing.assert_close(program.last_logits(ids_T.tolist(), [7, 1]), expected_TV[[6, 7]], atol=1e-4, rtol=0)


def test_a_proxy_has_no_winner_with_weights(tmp_path: Path) -> None:
    known = space("debug_space")
    arch = known.decode(known.sample(random.Random(0)))
    with pytest.raises(InvalidConfig, match="estimator 'params' judges a proxy"):
        export_judged(str(tmp_path), {"estimator": "params"}, arch.to_dict(), "fp32")


def test_a_winner_goes_on_from_its_weights_and_is_healed(
    winner: tuple[ArchConfig, QualitySpec], tmp_path: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    arch, _ = winner
    packed = Path(exported(winner, tmp_path, "8da4w")["weights"])
    fetched: list[str] = []

    def fetch(digest: str, target: Path) -> None:
        fetched.append(digest)
        target.write_bytes(packed.read_bytes())

    options = {"tokens": 2048, "length": 128, "rows": 2, "learning_rate": 3e-3}
    job = TrainJob(arch=arch.to_dict(), recipe="heal", weights=file_digest(packed), options=options)
    for _ in range(2):
        ready = with_weights(job, tmp_path / "cache", fetch)
    assert fetched == [job.weights]
    recipe = recipe_named("heal", arch, ready.options)
    assert [stage.name for stage in recipe.stages] == [
        "model", "data", "teacher", "heal", "evaluate_model", "evaluate_heal", "result",
    ]  # fmt: skip
    short = type(recipe)(recipe.name, recipe.stages[:4])
    done = run_recipe(short, tmp_path / "train", "healed")
    bits = done["heal"]["metrics"]["held_out_bits_per_byte"]
    assert bits["parent"] < bits["after"] < bits["before"]


def test_heal_says_what_it_lacks(winner: tuple[ArchConfig, QualitySpec], tmp_path: Path, one_thread: None) -> None:
    arch, _ = winner
    with pytest.raises(InvalidConfig, match="this trial has none: only confirmed winners"):
        with_weights(TrainJob(arch=arch.to_dict(), recipe="heal"), tmp_path, lambda *_: None)
    with pytest.raises(InvalidConfig, match="goes on from a winner's weights"):
        recipe_named("heal", arch, {})
    packed = Path(exported(winner, tmp_path, "8da4w")["weights"])
    with tarfile.open(packed) as archive:
        archive.extractall(tmp_path / "there", filter="data")
    start = str(tmp_path / "there/checkpoint")
    with pytest.raises(InvalidConfig, match="tokens make no step of 4 rows of 2048; give at least 8192"):
        recipe_named("heal", arch, {"start": start, "tokens": 1000})
    other = ArchConfig(arch.d_model, arch.vocab_size, arch.layers[:1])
    with pytest.raises(InvalidConfig, match="another architecture than the trial"):
        recipe_named("heal", other, {"start": start})
    (tmp_path / "there/checkpoint/composed_from.json").unlink()
    with pytest.raises(InvalidConfig, match="does not say what its parent is; give --teacher a Hugging Face"):
        recipe_named("heal", arch, {"start": start})
