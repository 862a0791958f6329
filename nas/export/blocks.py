"""Blocks: one sublayer, embedding or head, named by everything that changes its program. Two layers with equal settings
share a block; its weights are seeded from its content, so any process rebuilds the same numbers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Literal

import torch
from torch import nn

from contracts.plan import State
from nas.export.backends import BACKENDS, DEFAULT_BACKEND
from nas.export.modules import EmbeddingBlock, FfnBlock, HeadBlock, MixerBlock
from nas.export.stages import MAX_CHUNK
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import Skip, mixer_from_dict
from search_space.modeling.layers import RMSNorm
from search_space.modeling.model import Layer
from search_space.quantizable import require_quantizable

FORMAT_VERSION = 1  # raise it when the export form of any block changes
Role = Literal["embedding", "mixer", "ffn", "head"]


@dataclass(frozen=True)
class ProgramForm:
    """Shared by all blocks of a candidate. Raises InvalidConfig if the backend does not support the quantization."""

    quantization: str
    backend: str = DEFAULT_BACKEND

    def __post_init__(self) -> None:
        BACKENDS.get_or_raise(self.backend).check(self.quantization)


@dataclass(frozen=True)
class BlockSpec:
    """``options`` holds the operator's own settings and those of the architecture that affect it."""

    role: Role
    d_model: int
    quantization: str
    options: str  # canonical JSON, so that specs hash
    backend: str = DEFAULT_BACKEND

    @property
    def key(self) -> str:
        """The block's name in a library. The default backend is left out, so that libraries from before backends
        existed stay valid."""
        fields = asdict(self)
        if self.backend == DEFAULT_BACKEND:
            del fields["backend"]
        text = json.dumps({**fields, "format": FORMAT_VERSION, "toolchain": toolchain()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def seed(self) -> int:
        """The seed of the weights: depends on the block, not on the toolchain."""
        text = json.dumps([self.role, self.d_model, self.options])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")

    def parsed(self) -> dict[str, Any]:
        return json.loads(self.options)


@dataclass(frozen=True)
class PlacedBlock:
    """One step of a candidate: its block and the states that it owns."""

    name: str
    spec: BlockSpec
    states: tuple[State, ...] = ()


@lru_cache(maxsize=1)
def toolchain() -> str:
    return ",".join(f"{name}={version(name)}" for name in ("executorch", "torch", "torchao"))


def blocks_of(arch: ArchConfig, quantization: str, backend: str = DEFAULT_BACKEND) -> list[PlacedBlock]:
    """The chain of a candidate, in execution order. Raises InvalidConfig for widths that the quantization cannot
    pack."""
    form = ProgramForm(quantization, backend)
    require_quantizable(arch, quantization)
    ends = {"vocab_size": arch.vocab_size}
    placed = [_placed("embedding", "embedding", arch, form, {**ends, "multiplier": arch.embedding_multiplier})]
    for index, layer in enumerate(arch.layers):
        placed += _layer_blocks(index, layer, arch, form)
    placed.append(_placed("head", "head", arch, form, {**ends, "norm_eps": arch.norm_eps}))
    return placed


def _layer_blocks(index: int, layer: LayerConfig, arch: ArchConfig, form: ProgramForm) -> list[PlacedBlock]:
    shared = {"norm_eps": arch.norm_eps, "sandwich_norm": arch.sandwich_norm}
    found = []
    if not layer.mixer.identity:
        states = layer.mixer.states(arch.d_model)
        rotated = _rotated(arch) if layer.mixer.rotates else {}
        options = {**shared, **rotated, "mixer": layer.mixer.to_dict()}
        plan_states = tuple(State(**state.to_plan()) for state in states)
        found.append(_placed(f"{index}.{layer.mixer.kind}", "mixer", arch, form, options, plan_states))
    if layer.ffn:
        found.append(_placed(f"{index}.swiglu", "ffn", arch, form, {**shared, "ffn": asdict(layer.ffn)}))
    return found


def _rotated(arch: ArchConfig) -> dict[str, Any]:
    stretches = {"yarn": arch.yarn, "llama3": arch.llama3}
    stretched = {name: asdict(stretch) for name, stretch in stretches.items() if stretch}
    return {"rope_theta": arch.rope_theta, **stretched}


def _placed(
    name: str, role: Role, arch: ArchConfig, form: ProgramForm, options: dict[str, Any], states: tuple[State, ...] = ()
) -> PlacedBlock:
    text = json.dumps(options, sort_keys=True)
    return PlacedBlock(name, BlockSpec(role, arch.d_model, form.quantization, text, form.backend), states)


def build_block(spec: BlockSpec, variant: int = 0) -> nn.Module:
    """The block as a float module in its export form, with its seeded weights; variant 0 is the library's."""
    generator_state = torch.random.get_rng_state()
    try:
        torch.manual_seed(spec.seed + variant)
        return _BUILDERS[spec.role](spec).eval()
    finally:
        torch.random.set_rng_state(generator_state)


def _embedding(spec: BlockSpec) -> nn.Module:
    options = spec.parsed()
    rows = torch.randn(options["vocab_size"], spec.d_model) * 0.02
    return EmbeddingBlock(rows, spec.quantization, options["multiplier"])


def _head(spec: BlockSpec) -> nn.Module:
    options = spec.parsed()
    head = nn.Linear(spec.d_model, options["vocab_size"], bias=False)
    nn.init.normal_(head.weight, std=0.02)
    return HeadBlock(RMSNorm(spec.d_model, options["norm_eps"]), head)


def _mixer(spec: BlockSpec) -> nn.Module:
    mixer = mixer_from_dict(spec.parsed()["mixer"])
    return MixerBlock(_layer(spec, LayerConfig(mixer, None)), mixer.kind, 0)


def _ffn(spec: BlockSpec) -> nn.Module:
    return FfnBlock(_layer(spec, LayerConfig(Skip(), SwiGLU(**spec.parsed()["ffn"]))))


def _layer(spec: BlockSpec, config: LayerConfig) -> Layer:
    """One layer as the model builds it; initial weights at 1/sqrt(fan-in), so that signals neither die nor explode."""
    options = spec.parsed()
    arch = ArchConfig(
        spec.d_model, 32, (config,), sandwich_norm=options["sandwich_norm"], norm_eps=options["norm_eps"],
        rope_theta=options.get("rope_theta", 1_000_000.0), yarn=options.get("yarn"), llama3=options.get("llama3"),
    )  # fmt: skip
    layer = Layer(config, arch)
    for module in layer.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    return layer


_BUILDERS = {"embedding": _embedding, "head": _head, "mixer": _mixer, "ffn": _ffn}


def example_inputs(spec: BlockSpec) -> tuple[torch.Tensor, ...]:
    """Inputs of the program at its largest chunk; the head sees one token."""
    slot, pos = torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    if spec.role == "embedding":
        return (torch.zeros(1, MAX_CHUNK, dtype=torch.int64),)
    if spec.role == "head":
        return (torch.zeros(1, 1, spec.d_model),)
    hidden = torch.zeros(1, MAX_CHUNK, spec.d_model)
    return (hidden, slot, pos) if spec.role == "mixer" else (hidden,)
