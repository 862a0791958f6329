"""What is trained is what is exported: fake-quantized = the exporter's eager form = the .pte in the runner."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from contracts.plan import Check, Protocol
from contracts.runner_events import records
from device_agents.devices.host import HostDevice
from nas.export.compose import CHECK_CHUNKS, build_plan
from nas.export.library import BlockLibrary
from nas.export.one_piece import export_checkpoint, one_piece_chain
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa, SlidingWindow
from search_space.modeling.model import HilnasForCausalLM, build_model
from trainer.data.packing import PackedStream
from trainer.engine.config import LoopConfig
from trainer.engine.processes import alone
from trainer.engine.train import TrainingData, train
from trainer.quantization.exported import differences
from trainer.quantization.modules import prepare, quantized

ARCH = ArchConfig(
    64, 320,
    (
        LayerConfig(GatedShortConv(3), SwiGLU(128)), LayerConfig(Gqa(2, 1, 32), SwiGLU(128)),
        LayerConfig(SlidingWindow(2, 1, 32, window=8), SwiGLU(128)),
    ),
)  # fmt: skip
PROTOCOL = Protocol(
    name="parity", threads=2, warmup=0, repetitions=1, prefill_lengths=[20], decode_contexts=[20], decode_tokens=2
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few steps with stochastic rounding; the directory has float weights."""
    folder = tmp_path_factory.mktemp("qat")
    tokens = (np.arange(6000) ** 2 % 317 + 1).astype(np.int32)
    model = prepare(build_model(ARCH, seed=2), "stochastic", seed=2)
    config = LoopConfig(steps=12, batch=4, micro_batch=4, length=64, warmup=2, kd_weight=0.0, save_every=100)
    train(model, TrainingData(PackedStream(tokens, 64, 0)), config, folder, alone("cpu"))
    whole = build_model(ARCH)
    whole.load_state_dict(model.state_dict())
    whole.save_pretrained(folder / "model")
    return folder / "model"


def test_fake_quantized_is_what_the_exporter_computes(trained: Path) -> None:
    model = HilnasForCausalLM.from_pretrained(trained)
    apart = differences(model, [(7 * i) % 320 for i in range(64)])
    assert np.median(apart) < 1e-5
    assert max(apart) < 0.1  # where the last bit of a sum moves an activation by a step of int8


@pytest.mark.slow
@torch.no_grad()
def test_fake_quantized_is_what_the_runner_computes(trained: Path, library: BlockLibrary, runner: Path) -> None:
    exported = export_checkpoint(str(library.root), str(trained), "8da4w")
    check = Check(**exported["check"])
    plan = build_plan(
        ARCH, one_piece_chain(ARCH, exported["digest"]), PROTOCOL, cache_dtype="fp32", check=check, canary=None
    )
    events = records(HostDevice(library.blocks_dir).run(plan, lambda: False))
    found = next(event for event in events if event["event"] == "check")
    ours = quantized(HilnasForCausalLM.from_pretrained(trained))(torch.tensor([check.tokens])).logits[0]
    ends = np.cumsum(CHECK_CHUNKS) - 1
    wanted = ours[ends][:, check.probe_ids]
    error = torch.tensor(found["logits"]) - wanted
    sqnr_db = 10 * math.log10(float(wanted.pow(2).sum() / error.pow(2).sum()))
    assert sqnr_db > 30
    # 0.04 without the scales in bfloat16, as XNNPACK keeps them; one of the two ends may have met a step of int8
    assert float((error.abs().amax(-1) / wanted.pow(2).mean().sqrt()).min()) < 1e-4
    assert found["passed"] and found["token_agreement"] == 1.0
