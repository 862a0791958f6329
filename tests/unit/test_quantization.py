"""Fake quantization is the exporter's; stochastic rounding is unbiased and resumes; the stage leaves float weights."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from foundation.errors import InvalidConfig
from nas.export.backends import BACKENDS
from nas.export.backends.xnnpack_linear import QuantizedLinear as EagerLinear
from nas.export.backends.xnnpack_linear import unpacked
from nas.export.modules import deploy, pack_rows_4bit
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from search_space.modeling.model import HilnasForCausalLM, build_model
from search_space.modeling.ops import unpack_rows
from trainer.data.vocabulary import VOCABULARY, Vocabulary
from trainer.engine.config import LoopConfig
from trainer.engine.launch import MODEL, Job, launch, run
from trainer.engine.processes import alone
from trainer.pipeline.records import Records
from trainer.pipeline.stage import StageContext
from trainer.quantization.modules import FakeQuantized, QuantizedLinear, begin_step, prepare, quantized
from trainer.quantization.rounding import (
    LINEAR,
    ROWS,
    GroupFormat,
    fake_quantized_tokens,
    fake_quantized_weight,
)  # fmt: skip
from trainer.stages.qat import QatStage

ARCH = ArchConfig(
    64, 96,
    (LayerConfig(GatedShortConv(3), SwiGLU(96)), LayerConfig(Gqa(2, 1, 32, gate=True), SwiGLU(96))),
)  # fmt: skip
CONFIG = LoopConfig(
    steps=12, batch=4, micro_batch=2, length=16, warmup=2, save_every=5, kd_weight=0.0, learning_rate=3e-3
)


def weights(seed: int = 0, shape: tuple[int, int] = (48, 64)) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.1


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a ``data`` stage leaves, of 3,000 tokens that follow each other by a rule."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    tokens = np.where(random.random(3000) < 0.05, 0, random.integers(1, 9, 3000) ** 2).astype(np.int32)
    tokens.tofile(folder / "train.bin")
    tokens[:400].tofile(folder / "held_out.bin")
    identity = np.arange(96, dtype=np.int32)
    Vocabulary(identity, identity, np.arange(97), np.ones(96, np.int32), 0, 0).save(folder / VOCABULARY)
    (folder / "tokenizer").mkdir()
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    build_model(ARCH, seed=1).save_pretrained(folder / MODEL)
    return folder


def job(data: Path, start: Path, folder: Path, rounding: str | None = "stochastic", **changes: Any) -> Job:
    folder.mkdir(exist_ok=True)
    config = asdict(replace(CONFIG, **changes))
    return Job(ARCH.to_dict(), config, str(data), None, str(folder), str(start / MODEL), rounding=rounding)


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in Records(folder / "curve.jsonl").read()]


@pytest.fixture(scope="module")
def trained(data: Path, start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with stochastic rounding from start to end."""
    folder = tmp_path_factory.mktemp("trained")
    run(job(data, start, folder), alone("cpu"))
    return folder


def test_weights_are_those_of_the_exporter_bit_by_bit() -> None:
    model = build_model(ARCH, seed=1).eval()
    form, ours = unpacked(BACKENDS["xnnpack"].quantize(deploy(model, "8da4w"), "8da4w")), quantized(model)
    exported = [tuple(m.weight.shape) for m in form.modules() if isinstance(m, EagerLinear)]
    linears = [tuple(m.weight.shape) for m in ours.modules() if isinstance(m, QuantizedLinear)]
    assert sorted(linears) == sorted(exported) and len(linears) == 14
    assert torch.equal(ours.lm_head.weight, form.head.head.weight)
    assert torch.equal(ours.model.layers[0].ffn.w2.weight, form.steps[1].ffn.w2.weight)
    rows = unpack_rows(form.embedding.rows, form.embedding.scales, 32)
    assert torch.equal(ours.model.embed_tokens.weight, rows)
    assert not torch.equal(rows, ours.lm_head.weight)  # two scale formulas for one tied matrix


@pytest.mark.parametrize("seed", range(4))
def test_formulas_are_torchaos(seed: int) -> None:
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, quantize_
    from torchao.quantization.granularity import PerGroup
    from torchao.quantization.qat import QATConfig

    weight = weights(seed)
    weight[0, :32] = 0
    linear = nn.Linear(64, 48, bias=False)
    linear.weight = nn.Parameter(weight.clone())
    base = Int8DynamicActivationIntxWeightConfig(weight_dtype=torch.int4, weight_granularity=PerGroup(32))
    wrapped = nn.Sequential(linear)
    quantize_(wrapped, QATConfig(base, step="prepare"), lambda module, _: isinstance(module, nn.Linear))
    linear = wrapped[0]
    theirs = replace(LINEAR, stored=torch.float32)
    assert torch.equal(fake_quantized_weight(weight, theirs), linear.weight_fake_quantizer(weight))
    x = weights(seed + 9, (7, 64)) * torch.tensor([1.0, 0.0, 30.0, 1e-4, 1.0, 1.0, 1.0])[:, None]
    x[4], x[5] = x[4].abs(), -x[5].abs()
    assert torch.equal(fake_quantized_tokens(x), linear.activation_fake_quantizer(x))
    assert torch.equal(fake_quantized_weight(weight, ROWS), unpack_rows(*pack_rows_4bit(weight), 32))


@pytest.mark.parametrize("form", [LINEAR, ROWS], ids=["linear", "rows"])
def test_stochastic_rounding_is_unbiased_where_int4_does_not_end(form: GroupFormat) -> None:
    weight, generator = weights(), torch.Generator().manual_seed(5)
    draws = torch.stack(
        [fake_quantized_weight(weight, form, torch.rand(weight.shape, generator=generator)) for _ in range(3000)]
    )
    scale = (weight.unflatten(-1, (-1, 32)).abs().amax(-1, keepdim=True) / form.levels).to(form.stored).float()
    step = scale.expand(-1, -1, 32).flatten(-2)
    interior = weight / step <= 7
    error = ((draws.mean(0) - weight) / step)[interior]
    # a mean of 3,000 draws has a standard error of at most 0.0092 steps
    assert error.abs().max() < 6 * 0.0092
    assert abs(error.mean()) < 1e-3
    nearest = ((fake_quantized_weight(weight, form) - weight) / step)[interior]
    assert nearest.abs().max() > 0.45
    assert (((draws - weight) / step)[:, interior].abs() < 1.0001).all()


def test_gradients_pass_straight_through() -> None:
    weight, x = weights().requires_grad_(), weights(1, (5, 64)).requires_grad_()
    given = weights(2)
    fake_quantized_weight(weight, LINEAR, torch.rand(weight.shape)).backward(given)
    assert weight.grad is not None and torch.equal(weight.grad, given)
    fake_quantized_tokens(x.bfloat16()).sum().backward()
    assert x.grad is not None and (x.grad == 1).all()


def test_parameters_keep_their_names_and_ties() -> None:
    model = build_model(ARCH, seed=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    prepare(model, "nearest")
    after = model.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[name], before[name]) for name in before)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_a_draw_follows_seed_step_and_module_and_ends_in_eval_mode() -> None:
    def rounded(seed: int, step: int, train: bool = True) -> list[torch.Tensor]:
        model = prepare(build_model(ARCH, seed=1), "stochastic", seed).train(train)
        begin_step(model, step)
        return [module.rounded() for module in model.modules() if isinstance(module, FakeQuantized)]

    first = rounded(3, 7)
    assert all(torch.equal(a, b) for a, b in zip(first, rounded(3, 7), strict=True))
    for other in (rounded(3, 8), rounded(4, 7)):
        assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    nearest = [module.weight for module in quantized(build_model(ARCH, seed=1)).modules() if hasattr(module, "weight")]
    assert all(any(torch.equal(a.detach(), b) for b in nearest) for a in rounded(3, 7, train=False))


@torch.no_grad()
def test_in_eval_mode_a_prepared_model_is_the_quantized_one() -> None:
    model = build_model(ARCH, seed=1).eval()
    ids = torch.randint(0, 96, (2, 20), generator=torch.Generator().manual_seed(0))
    wanted = quantized(model)(ids).logits
    assert torch.equal(prepare(model, "stochastic").eval()(ids).logits, wanted)
    assert not model.training


def test_it_learns_and_leaves_float_weights(trained: Path) -> None:
    curve = losses(trained)
    assert curve[-1] < curve[0] - 0.1
    state = HilnasForCausalLM.from_pretrained(trained / MODEL).state_dict()
    weight = state["model.layers.0.ffn.w1.weight"]
    assert weight.dtype == torch.float32 and not torch.equal(weight, fake_quantized_weight(weight, LINEAR))


def test_a_stopped_run_goes_on_bit_by_bit(data: Path, start: Path, trained: Path, tmp_path: Path) -> None:
    class Ended(Exception):
        pass

    def end(share: float, _: str) -> None:
        if share > 0.6:
            raise Ended

    with pytest.raises(Ended):
        run(job(data, start, tmp_path), alone("cpu"), end)
    run(job(data, start, tmp_path), alone("cpu"))
    assert losses(tmp_path) == losses(trained)
    ours, theirs = (load_file(folder / MODEL / "model.safetensors") for folder in (trained, tmp_path))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_how_rows_are_divided_does_not_change_the_losses(data, start, trained: Path, tmp_path: Path) -> None:
    run(job(data, start, tmp_path, micro_batch=4), alone("cpu"))
    assert np.abs(np.array(losses(tmp_path)) - np.array(losses(trained))).max() < 1e-5


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(data: Path, start: Path, trained: Path, tmp_path: Path) -> None:
    launch(job(data, start, tmp_path), 2)
    assert np.abs(np.array(losses(tmp_path)) - np.array(losses(trained))).max() < 1e-5


def test_without_rounding_it_is_the_loop_as_it_was(data: Path, start: Path, trained: Path, tmp_path: Path) -> None:
    run(job(data, start, tmp_path, rounding=None), alone("cpu"))
    assert losses(tmp_path)[0] != losses(trained)[0]


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_the_stage_tells_what_quantization_costs(data: Path, start: Path, tmp_path: Path, rounding: str) -> None:
    loop = replace(CONFIG, in_order=True, steps=20)
    stage = QatStage(start="start", loop=loop, examples=None, rounding=rounding)
    assert stage.inputs == ("start", "data") and stage.resolved()["rounding"] == rounding
    context = StageContext(tmp_path, {"start": start, "data": data}, lambda *_: None, Records(tmp_path / "curve.jsonl"))
    metrics = stage.run(context)
    bits = metrics["held_out_bits_per_byte"]
    assert bits["ptq"] != bits["fp32"]
    assert bits["qat"] < bits["ptq"] - 0.1  # it went on learning
    assert metrics["label_share"] == 1.0 and metrics["median_difference"] < 1e-5
    stage.check(tmp_path)


def test_what_cannot_work_is_said() -> None:
    with pytest.raises(InvalidConfig, match="unknown rounding 'up'; known: nearest, stochastic"):
        QatStage(rounding="up")
    with pytest.raises(InvalidConfig, match="name the stage that has them"):
        QatStage(examples=None, tasks=("extraction",))
    with pytest.raises(InvalidConfig, match="its loop needs in_order=True"):
        QatStage(loop=LoopConfig(in_order=False))
    with pytest.raises(InvalidConfig, match="w2 reads 80 values; 8da4w takes multiples of 32"):
        prepare(build_model(ArchConfig(64, 96, (LayerConfig(GatedShortConv(3), SwiGLU(80)),))), "nearest")
