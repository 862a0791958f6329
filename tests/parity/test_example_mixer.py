"""The mixer of examples/plugins/gated_ema.py: one set of numbers in training, in steps, padded, packed, cached as a
prefix, and on the runner."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from contracts.plan import Protocol
from contracts.runner_events import records
from device_agents.devices.host import HostDevice
from foundation import plugin_loader
from nas.export.compose import build_plan, candidate_check, chain_of
from nas.export.library import BlockLibrary
from nas.export.reference import EagerChain
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.cost import cache_bytes, params
from search_space.mixers import MIXERS, Gqa
from search_space.modeling.model import build_model

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugins" / "gated_ema.py"
PROTOCOL = Protocol(
    name="parity", threads=2, warmup=0, repetitions=1, prefill_lengths=[20], decode_contexts=[20], decode_tokens=2
)


@pytest.fixture(scope="module")
def arch() -> Iterator[ArchConfig]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(plugin_loader.VARIABLE, "")
        plugin_loader.use_plugin(str(EXAMPLE))  # compile workers load it too
        ema = MIXERS["gated_ema"]
        layers = (LayerConfig(ema(), SwiGLU(128)), LayerConfig(Gqa(4, 2, 16), SwiGLU(128)), LayerConfig(ema(), None))
        yield ArchConfig(64, 128, layers)
        MIXERS._parts.pop("gated_ema")
        plugin_loader._loaded.discard(str(EXAMPLE))


@torch.no_grad()
def test_steps_padding_and_packing_give_the_same_numbers(arch: ArchConfig) -> None:
    model = build_model(arch, seed=0, dtype=torch.float64).eval()
    ids = torch.randint(0, 128, (2, 23), generator=torch.Generator().manual_seed(1))
    whole = model(ids, use_cache=False).logits
    cache, parts = None, []
    for part in (ids[:, :9], ids[:, 9:10], ids[:, 10:]):
        out = model(part, past_key_values=cache, use_cache=True)
        cache, parts = out.past_key_values, [*parts, out.logits]
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-9, rtol=0)
    padded = torch.nn.functional.pad(ids, (3, 0))
    mask = (torch.arange(26) >= 3).long().expand(2, -1)
    torch.testing.assert_close(
        model(padded, attention_mask=mask, use_cache=True).logits[:, 3:], whole, atol=1e-9, rtol=0
    )
    segments = (torch.arange(23) >= 10).long().expand(2, -1)
    positions = torch.cat((torch.arange(10), torch.arange(13))).expand(2, -1)
    packed = model(ids, seq_idx=segments, position_ids=positions).logits[:, 10:]
    torch.testing.assert_close(packed, model(ids[:, 10:], use_cache=False).logits, atol=1e-9, rtol=0)


def test_its_costs_are_those_of_the_built_model(arch: ArchConfig) -> None:
    model = build_model(arch, seed=0)
    assert params(arch) == sum(parameter.numel() for parameter in model.parameters())
    attention = 4 * 2 * 2 * 16 * 100
    assert cache_bytes(arch, 100) == attention + 2 * 4 * 64  # two states of 4 heads of 1 x 16 in float32


@pytest.mark.slow
@pytest.mark.parametrize("quantization", ["fp32", "8da4w"])
def test_the_runner_agrees_with_eager_torch(
    arch: ArchConfig, tmp_path: Path, runner: Path, quantization: str
) -> None:
    library = BlockLibrary(tmp_path, 1)
    chain = chain_of(arch, quantization, library)
    library.close()
    check = candidate_check(arch, quantization, "fp32", EagerChain())
    plan = build_plan(arch, chain, PROTOCOL, cache_dtype="fp32", check=check, canary=None)
    events = records(HostDevice(library.blocks_dir, runner).run(plan, lambda: False))
    assert events[-1]["event"] == "end", events[-1]
    found = next(event for event in events if event["event"] == "check")
    assert found["sqnr_db"] > (80 if quantization == "fp32" else 25)
    assert found["token_agreement"] == 1.0
