"""A candidate as a runner plan: its chain of compiled blocks, its parity check, and the canary."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from contracts.plan import Cache, Canary, Check, Plan, Protocol, Step
from nas.export.backends import BACKENDS, DEFAULT_BACKEND
from nas.export.blocks import BlockSpec, blocks_of
from nas.export.library import BlockLibrary
from nas.export.prompts import token_ids
from nas.export.reference import EagerChain
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv

CHECK_CHUNKS = [7, 1]
NUM_PROBES = 16


def canary_arch(d_model: int) -> ArchConfig:
    """The reference chain of a study: the same for every candidate, so its time shows only the machine's drift."""
    return ArchConfig(d_model, 32, (LayerConfig(GatedShortConv(3), SwiGLU(2 * d_model)),) * 4)


def measured_blocks(arch: ArchConfig, quantization: str, backend: str = DEFAULT_BACKEND) -> list[BlockSpec]:
    """All blocks that a measurement of ``arch`` needs, the canary's included."""
    canary = blocks_of(canary_arch(arch.d_model), quantization, backend)
    inner = [block.spec for block in canary if block.spec.role in ("mixer", "ffn")]
    return [*(block.spec for block in blocks_of(arch, quantization, backend)), *inner]


def chain_of(
    arch: ArchConfig, quantization: str, library: BlockLibrary, backend: str = DEFAULT_BACKEND
) -> list[Step]:
    """Compiles missing blocks; raises the ExportFailed of the first block that cannot be compiled."""
    placed = blocks_of(arch, quantization, backend)
    entries = library.ensure(block.spec for block in placed)
    return [
        Step(block=entries[block.spec].digest, role=block.spec.role, name=block.name, states=list(block.states))
        for block in placed
    ]


def canary_of(d_model: int, quantization: str, library: BlockLibrary, backend: str = DEFAULT_BACKEND) -> Canary:
    steps = chain_of_layers(canary_arch(d_model), quantization, library, backend)
    return Canary(chain=steps, hidden_size=d_model, length=128, cache=Cache(capacity=128))


def chain_of_layers(arch: ArchConfig, quantization: str, library: BlockLibrary, backend: str) -> list[Step]:
    """The chain without embedding and head."""
    placed = [block for block in blocks_of(arch, quantization, backend) if block.spec.role in ("mixer", "ffn")]
    entries = library.ensure(block.spec for block in placed)
    return [
        Step(block=entries[block.spec].digest, role=block.spec.role, name=block.name, states=list(block.states))
        for block in placed
    ]


def check_of(
    expected_CV: Tensor, tokens: list[int], chunks: list[int], quantization: str, backend: str = DEFAULT_BACKEND
) -> Check:
    """The parity gate: expected logits at probe ids (the strongest and a fixed spread), few enough to send."""
    vocab_size = expected_CV.shape[1]
    spread = torch.linspace(0, vocab_size - 1, NUM_PROBES // 2).long().tolist()
    strongest = expected_CV.amax(0).topk(min(NUM_PROBES // 2, vocab_size)).indices.tolist()
    probes = sorted(set(spread + strongest))
    scale = float(expected_CV.std())
    sqnr = BACKENDS[backend].min_sqnr_db[quantization]
    return Check(
        tokens=tokens, chunks=chunks, probe_ids=probes,
        expected=[[round(value, 5) for value in row] for row in expected_CV[:, probes].tolist()],
        expected_argmax=expected_CV.argmax(-1).tolist(),
        max_abs_error=6 * scale * 10 ** (-sqnr / 20), min_sqnr_db=sqnr,
        min_token_agreement=0.5 if quantization != "fp32" else 1.0,
    )  # fmt: skip


def candidate_check(
    arch: ArchConfig, quantization: str, cache_dtype: str, eager: EagerChain, backend: str = DEFAULT_BACKEND
) -> Check:
    tokens = token_ids(arch.vocab_size, sum(CHECK_CHUNKS))
    logits = eager.logits(arch, quantization, tokens, CHECK_CHUNKS, cache_dtype, backend)
    return check_of(logits, tokens, CHECK_CHUNKS, quantization, backend)


def build_plan(
    arch: ArchConfig,
    chain: list[Step],
    protocol: Protocol,
    *,
    cache_dtype: Literal["fp32", "fp16"],
    check: Check | None,
    canary: Canary | None,
    name: str = "",
    backend: str = DEFAULT_BACKEND,
) -> Plan:
    """The complete plan of one measurement of ``arch``."""
    return Plan(
        id=name or arch.digest[:12], chain=chain, cache=Cache(dtype=cache_dtype, capacity=protocol.capacity),
        hidden_size=arch.d_model, vocab_size=arch.vocab_size, protocol=protocol,
        tokens=token_ids(arch.vocab_size, 64), check=check, canary=canary, backend=backend,
    )  # fmt: skip
