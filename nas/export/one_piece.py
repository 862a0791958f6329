"""A candidate as one program: from its blocks' own weights (to confirm a composed measurement) or from a trained
model."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import torch

from contracts.plan import Check, State, Step
from foundation.files import write_atomically
from foundation.measurement_lock import MeasurementLock
from nas.export.backends import DEFAULT_BACKEND
from nas.export.blocks import FORMAT_VERSION, blocks_of, build_block, toolchain
from nas.export.compose import CHECK_CHUNKS, check_of
from nas.export.delegation import describe_delegation
from nas.export.eager_program import EagerProgram
from nas.export.library import BlockLibrary
from nas.export.modules import DeployedModel, MixerBlock, deploy
from nas.export.prompts import token_ids
from nas.export.stages import MAX_CHUNK, compile_program, staged
from search_space.arch import ArchConfig


def states_of(arch: ArchConfig) -> list[State]:
    """All states of a candidate in layer order, as the program indexes them."""
    return [State(**state.to_plan()) for layer in arch.layers for state in layer.mixer.states(arch.d_model)]


def model_of_blocks(
    arch: ArchConfig, quantization: str, distinct: bool = False, backend: str = DEFAULT_BACKEND
) -> DeployedModel:
    """The candidate built from its blocks: with exactly the library's weights, so that its logits can be compared with
    the composed chain's, or ``distinct`` per layer as in a trained model (equal constants are stored only once)."""
    placed = blocks_of(arch, quantization, backend)
    modules = [build_block(block.spec, 1 + index if distinct else 0) for index, block in enumerate(placed)]
    num_states = 0
    for block, module in zip(placed, modules, strict=True):
        if isinstance(module, MixerBlock):
            module.mixer.index = num_states  # type: ignore[assignment]
            num_states += len(block.states)
    return DeployedModel(modules[0], modules[1:-1], modules[-1])


def compile_model(
    model: DeployedModel, arch: ArchConfig, quantization: str, backend: str = DEFAULT_BACKEND
) -> tuple[bytes, object]:
    """(program, lowered manager). Raises ExportFailed with the stage."""
    slots = torch.zeros(len(states_of(arch)), dtype=torch.int64)
    inputs = (torch.zeros(1, MAX_CHUNK, dtype=torch.int64), slots, torch.zeros(1, dtype=torch.int64))
    return compile_program(model, inputs, quantization, backend=backend)


def export_candidate(
    root: str,
    arch_fields: dict[str, Any],
    quantization: str,
    distinct: bool = True,
    reuse: bool = True,
    backend: str = DEFAULT_BACKEND,
) -> dict[str, Any]:
    """Compiles a candidate into one program: {digest, check, seconds, delegation}. Runs in a worker process.

    With ``reuse`` an earlier export of the same candidate by the same toolchain is returned instead.
    """
    torch.set_num_threads(1)
    arch, library = ArchConfig.from_dict(arch_fields), BlockLibrary(Path(root))
    record = library.root / "pieces" / f"{piece_key(arch, quantization, distinct, backend)}.json"
    if reuse and record.exists():
        return dict(json.loads(record.read_text()))
    with MeasurementLock().shared():
        start = time.monotonic()
        model = staged("build", lambda: model_of_blocks(arch, quantization, distinct, backend))
        program, edge = compile_model(model, arch, quantization, backend)
        seconds = time.monotonic() - start
        check = check_model(model, arch, quantization, backend=backend)
    found = exported(root, program, edge, check, seconds)
    write_atomically(record, json.dumps(found))
    return found


def piece_key(arch: ArchConfig, quantization: str, distinct: bool, backend: str = DEFAULT_BACKEND) -> str:
    """The default backend is left out, as in a block's key."""
    other = [] if backend == DEFAULT_BACKEND else [backend]
    text = json.dumps([arch.digest, quantization, distinct, FORMAT_VERSION, toolchain(), *other])
    return hashlib.sha256(text.encode()).hexdigest()


def check_model(
    quantized: DeployedModel,
    arch: ArchConfig,
    quantization: str,
    cache_dtype: str = "fp32",
    backend: str = DEFAULT_BACKEND,
) -> Check:
    """The parity check of a complete quantized model: eager torch's logits for real token ids."""
    tokens = token_ids(arch.vocab_size, sum(CHECK_CHUNKS))
    logits_CV = EagerProgram(quantized, arch, backend, cache_dtype).last_logits(tokens, CHECK_CHUNKS)
    return check_of(logits_CV, tokens, CHECK_CHUNKS, quantization, backend)


def export_checkpoint(root: str, checkpoint: str, quantization: str, backend: str = DEFAULT_BACKEND) -> dict[str, Any]:
    """Compiles a trained Hugging Face directory into one program: {digest, check, seconds, delegation}."""
    from search_space.modeling.model import HilnasForCausalLM

    trained = HilnasForCausalLM.from_pretrained(checkpoint)
    arch, start = trained.config.to_arch(), time.monotonic()
    model = deploy(trained, quantization)
    program, edge = compile_model(model, arch, quantization, backend)
    seconds = time.monotonic() - start
    check = check_model(model, arch, quantization, backend=backend)
    return exported(root, program, edge, check, seconds)


def exported(root: str, program: bytes, edge: object, check: Check, seconds: float) -> dict[str, Any]:
    """Stores the program; what is told of it."""
    return {
        "digest": BlockLibrary(Path(root)).store(program), "check": check.model_dump(), "seconds": seconds,
        "delegation": describe_delegation(edge),
    }  # fmt: skip


def one_piece_chain(arch: ArchConfig, digest: str) -> list[Step]:
    return [Step(block=digest, role="model", name="model", states=states_of(arch))]
