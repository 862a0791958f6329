"""eager = composed chain = one piece = runner, on real token ids, for every quantization and every operator."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from contracts.plan import Cache, Check, Plan, Prefix, Protocol
from contracts.runner_events import records
from device_agents.bundle.manifest import Bundle
from device_agents.devices.host import HostDevice
from nas.export.blocks import blocks_of
from nas.export.compose import build_plan, candidate_check, chain_of
from nas.export.library import BlockLibrary
from nas.export.modules import deploy
from nas.export.one_piece import check_model, export_candidate, one_piece_chain
from nas.export.reference import EagerChain
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.cost import weight_bytes
from search_space.mixers import GatedShortConv, Gqa, Skip, SlidingWindow
from search_space.modeling.model import build_model
from search_space.rope import Yarn
from tests.parity.test_aarch64 import NEW_CORE, phone_events

ARCH = ArchConfig(
    128, 512,
    (
        LayerConfig(GatedShortConv(3), SwiGLU(256)), LayerConfig(Gqa(4, 2, 32), SwiGLU(256)),
        LayerConfig(SlidingWindow(4, 2, 32, window=4), SwiGLU(256)), LayerConfig(Gqa(4, 2, 32), None),
    ),
)  # fmt: skip
GATED = ArchConfig(
    128,
    512,
    (LayerConfig(Gqa(4, 2, 32, gate=True), None), LayerConfig(GatedShortConv(7), SwiGLU(256))),
    sandwich_norm=True,
)
STRETCHED = replace(ARCH, rope_theta=10_000.0, yarn=Yarn(factor=4.0, original_length=64))
PROTOCOL = Protocol(
    name="parity", threads=2, warmup=0, repetitions=1, prefill_lengths=[20], decode_contexts=[20], decode_tokens=2
)
pytestmark = pytest.mark.slow


def checked(library: BlockLibrary, plan) -> dict:
    events = records(HostDevice(library.blocks_dir).run(plan, lambda: False))
    assert events[-1]["event"] == "end", events[-1]
    return next(event for event in events if event["event"] == "check")


def plan_for(arch: ArchConfig, quantization: str, cache_dtype: str, library: BlockLibrary):
    check = candidate_check(arch, quantization, cache_dtype, EagerChain())
    chain = chain_of(arch, quantization, library)
    return build_plan(arch, chain, PROTOCOL, cache_dtype=cache_dtype, check=check, canary=None)


@pytest.mark.parametrize("quantization", ["8da4w", "8da8w", "fp32"])
def test_composed_chain_equals_eager(library: BlockLibrary, runner: Path, quantization: str) -> None:
    found = checked(library, plan_for(ARCH, quantization, "fp32", library))
    assert found["passed"]
    assert found["token_agreement"] == 1.0
    assert found["sqnr_db"] > (80 if quantization == "fp32" else 25)


def test_nothing_is_delegated_by_the_portable_backend(library: BlockLibrary, runner: Path) -> None:
    """The same weights as XNNPACK's blocks under other keys, equal to eager torch, without a delegated subgraph."""
    check = candidate_check(ARCH, "fp32", "fp32", EagerChain(), "portable")
    chain = chain_of(ARCH, "fp32", library, "portable")
    plan = build_plan(
        ARCH, chain, PROTOCOL, cache_dtype="fp32", check=check, canary=None, backend="portable"
    )
    assert checked(library, plan)["sqnr_db"] > 80
    entries = [library.get(block.spec) for block in blocks_of(ARCH, "fp32", "portable")]
    assert all(entry is not None and entry.delegation["num_delegates"] == 0 for entry in entries)
    others = chain_of(ARCH, "fp32", library)
    mixers = [(a.block, b.block) for a, b in zip(chain, others, strict=True) if a.role == "mixer"]
    assert mixers and all(portable != xnnpack for portable, xnnpack in mixers)


def test_gate_sandwich_norm_and_kernel_seven(library: BlockLibrary, runner: Path) -> None:
    assert checked(library, plan_for(GATED, "fp32", "fp32", library))["sqnr_db"] > 80


def test_yarn(library: BlockLibrary, runner: Path) -> None:
    assert checked(library, plan_for(STRETCHED, "fp32", "fp32", library))["sqnr_db"] > 80


@torch.no_grad()
@pytest.mark.parametrize("arch", [ARCH, GATED, STRETCHED], ids=["plain", "gated", "stretched"])
def test_the_export_form_says_what_the_trained_model_says(arch: ArchConfig) -> None:
    trained = build_model(arch, seed=1).eval()
    check = check_model(deploy(trained, "fp32"), arch, "fp32")
    wanted = trained(torch.tensor([check.tokens])).logits[0, -1]
    torch.testing.assert_close(torch.tensor(check.expected[-1]), wanted[check.probe_ids], atol=1e-4, rtol=1e-4)


def test_half_precision_cache(library: BlockLibrary, runner: Path) -> None:
    assert checked(library, plan_for(ARCH, "fp32", "fp16", library))["sqnr_db"] > 60


@pytest.mark.parametrize("quantization", ["8da4w", "fp32"])
def test_one_piece_equals_the_composed_chain(library: BlockLibrary, runner: Path, quantization: str) -> None:
    """The same weights in both forms: the runner's logits differ by rounding only."""
    composed = plan_for(ARCH, quantization, "fp32", library)
    exported = export_candidate(str(library.root), ARCH.to_dict(), quantization, distinct=False)
    whole = composed.model_copy(
        update={"chain": one_piece_chain(ARCH, exported["digest"]), "check": Check(**exported["check"])}
    )
    assert whole.check.expected_argmax == composed.check.expected_argmax
    a, b = (
        checked(library, composed)["logits"],
        checked(library, whole.model_copy(update={"check": composed.check}))["logits"],
    )
    error = max(abs(x - y) for r, s in zip(a, b, strict=True) for x, y in zip(r, s, strict=True))
    spread = math.sqrt(sum(x * x for row in a for x in row) / sum(map(len, a)))
    assert error < (1e-4 if quantization == "fp32" else 0.05) * spread


def test_a_candidate_without_states_is_one_program_too(library: BlockLibrary, runner: Path) -> None:
    arch = replace(ARCH, layers=(LayerConfig(Skip(), SwiGLU(128)),) * 2)
    exported = export_candidate(str(library.root), arch.to_dict(), "fp32")
    plan = build_plan(
        arch, one_piece_chain(arch, exported["digest"]), PROTOCOL, cache_dtype="fp32",
        check=Check(**exported["check"]), canary=None,
    )  # fmt: skip
    assert checked(library, plan)["passed"]


@pytest.mark.parametrize("quantization", ["8da4w", "8da8w", "fp32"])
def test_weight_bytes_equal_the_exported_files(library: BlockLibrary, quantization: str) -> None:
    """Block files hold the weights and little else (program text, padding)."""
    entries = [library.path(step.block).stat().st_size for step in chain_of(ARCH, quantization, library)]
    exact = weight_bytes(ARCH, quantization)
    assert exact <= sum(entries) <= exact + 12_000 * len(entries)


def test_a_wrong_answer_fails_the_gate(library: BlockLibrary, runner: Path) -> None:
    plan = plan_for(ARCH, "fp32", "fp32", library)
    wrong = plan.check.model_copy(update={"expected": [[x + 1 for x in row] for row in plan.check.expected]})
    events = records(HostDevice(library.blocks_dir).run(plan.model_copy(update={"check": wrong}), lambda: False))
    assert events[-1]["code"] == "check_failed"
    assert not any(event["event"] == "repetition" for event in events)


def with_prefix(plan: Plan, prefix: Prefix, **changes) -> Plan:
    protocol = PROTOCOL.model_copy(update={"prefill_lengths": [], "decode_contexts": []})
    return plan.model_copy(update={"prefix": prefix, "protocol": protocol, "max_chunk": 16, "check": None, **changes})


def prefix_events(library: BlockLibrary, plan: Plan, prefix: Prefix, **changes) -> list[dict]:
    return records(HostDevice(library.blocks_dir).run(with_prefix(plan, prefix, **changes), lambda: False))


@pytest.mark.parametrize("cache_dtype", ["fp32", "fp16"])
@pytest.mark.parametrize("quantization", ["8da4w", "fp32"])
def test_a_prefix_goes_on_in_another_process(
    library: BlockLibrary, runner: Path, tmp_path: Path, request: pytest.FixtureRequest, quantization: str,
    cache_dtype: str,
) -> None:
    """A prefix that ends with a chunk gives the very same logits; elsewhere the chunks differ, hence the rounding."""
    plan, name = plan_for(ARCH, quantization, cache_dtype, library), f"test-{tmp_path.name}.prefix"
    path = library.blocks_dir / name
    request.addfinalizer(lambda: path.unlink(missing_ok=True))
    roomy = {"cache": Cache(dtype=cache_dtype, capacity=64)}
    for length in (32, 21, 3):
        saved = prefix_events(library, plan, Prefix(save=name, length=length), **roomy)
        restored = prefix_events(library, plan, Prefix(restore=name, suffix=5), **roomy)
        assert (saved[-1]["event"], restored[-1]["event"]) == ("end", "end"), (saved[-1], restored[-1])
        told = next(event for event in saved if event["event"] == "prefix_saved")
        found = next(event for event in restored if event["event"] == "prefix_restored")
        assert told["tokens"] == found["tokens"] == length
        assert told["file_bytes"] == found["file_bytes"] == path.stat().st_size
        assert found["argmax_equal"]
        if length == 32:
            assert found["logits_equal"]
        elif quantization == cache_dtype == "fp32":
            assert found["max_abs_difference"] <= 1e-5 * found["logits_rms"]
        times = [event for event in restored if event["event"] == "repetition"]
        assert [(row["phase"], row["restored"], row["tokens"]) for row in times] == [
            ("first_token", False, length + 5), ("first_token", True, 5)
        ]  # fmt: skip
        assert 0 < times[1]["restore_ns"] < times[1]["duration_ns"]


def test_a_prefix_of_something_else_is_refused(
    library: BlockLibrary, runner: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    plan, name = plan_for(ARCH, "fp32", "fp32", library), f"test-{tmp_path.name}.prefix"
    path = library.blocks_dir / name
    request.addfinalizer(lambda: path.unlink(missing_ok=True))
    prefix_events(library, plan, Prefix(save=name, length=20))
    whole = path.read_bytes()
    restore = Prefix(restore=name)
    other = plan_for(GATED, "fp32", "fp32", library)
    half = Cache(dtype="fp16", capacity=64)
    cases = [
        (other, {}, "belongs to another model"), (plan, {"cache": half}, "holds fp32 states, the plan's cache is fp16"),
        (plan, {"cache": Cache(capacity=19)}, "has room for 19"), (plan, {"cache": Cache(capacity=20)}, "and 1 follow"),
        (plan, {"tokens": [5]}, "holds other tokens"),
    ]  # fmt: skip
    for changed, fields, words in cases:
        error = prefix_events(library, changed, restore, **fields)[-1]
        assert (error["event"], error["code"]) == ("error", "bad_prefix"), error
        assert words in error["message"]
    path.write_bytes(whole[:-1])
    assert "is torn" in prefix_events(library, plan, restore)[-1]["message"]
    path.unlink()
    assert "cannot read prefix" in prefix_events(library, plan, restore)[-1]["message"]


def test_a_phone_goes_on_from_its_prefix(library: BlockLibrary, phone_bundle: Bundle, tmp_path: Path) -> None:
    """The same plans and events, under qemu-aarch64; the file lies beside the blocks."""
    folder, blocks = tmp_path / "bundle", tmp_path / "blocks"
    shutil.copytree(phone_bundle.path, folder)
    plan = plan_for(ARCH, "8da4w", "fp16", library)
    for digest in plan.blocks:
        blocks.mkdir(exist_ok=True)
        shutil.copy(library.path(digest), blocks)
    plan = plan.model_copy(update={"cache": Cache(dtype="fp16", capacity=64)})
    found, phone = [], SimpleNamespace(blocks_dir=blocks)
    for prefix in (Prefix(save="prompt.prefix", length=32), Prefix(restore="prompt.prefix", suffix=5)):
        found.append(phone_events(phone_bundle, folder, with_prefix(plan, prefix), phone, NEW_CORE))
    assert (found[0][-1]["event"], found[1][-1]["event"]) == ("end", "end"), found
    assert (blocks / "prompt.prefix").stat().st_size == found[0][-2]["file_bytes"]
    assert next(event for event in found[1] if event["event"] == "prefix_restored")["logits_equal"]
