"""The export form of every part of a model. A composed chain and a one-piece program are built from the same modules,
so on the device they differ only in composition."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from search_space.mixers import MIXERS
from search_space.modeling.layers import RMSNorm
from search_space.modeling.model import FeedForward, HilnasForCausalLM, Layer
from search_space.modeling.ops import ops

GROUP_SIZE = 32


class DeployedNorm(nn.Module):
    def __init__(self, trained: RMSNorm) -> None:
        super().__init__()
        self.weight = nn.Parameter(trained.weight.detach().float(), requires_grad=False)
        self.eps = trained.eps

    def forward(self, x: Tensor) -> Tensor:
        return ops.rms_norm(x, self.weight, self.eps)


class MixerBlock(nn.Module):
    """x + post_norm(mixer(norm(x))); inputs x [1, T, D], slots [S], pos [1]."""

    def __init__(self, layer: Layer, kind: str, index: int) -> None:
        super().__init__()
        self.norm = DeployedNorm(layer.mixer_norm)  # type: ignore[arg-type]
        self.mixer = MIXERS[kind].deployed_class()(layer.mixer, index)
        self.post_norm = DeployedNorm(layer.mixer_post_norm) if layer.mixer_post_norm else None

    def forward(self, x: Tensor, slots: Tensor, pos: Tensor) -> Tensor:
        mixed = self.mixer(self.norm(x), slots, pos)
        return x + (self.post_norm(mixed) if self.post_norm else mixed)


class FfnBlock(nn.Module):
    """x + post_norm(ffn(norm(x))); input x [1, T, D]."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.norm = DeployedNorm(layer.ffn_norm)  # type: ignore[arg-type]
        self.ffn: FeedForward = layer.ffn  # type: ignore[assignment]
        self.post_norm = DeployedNorm(layer.ffn_post_norm) if layer.ffn_post_norm else None

    def forward(self, x: Tensor) -> Tensor:
        fed = self.ffn(self.norm(x))
        return x + (self.post_norm(fed) if self.post_norm else fed)


class EmbeddingBlock(nn.Module):
    """ids [1, T] int64 -> [1, T, D] from 4-bit, 8-bit or float rows."""

    rows: Tensor
    scales: Tensor

    def __init__(self, rows_VD: Tensor, quantization: str, multiplier: float) -> None:
        super().__init__()
        self.quantization, self.multiplier = quantization, multiplier
        rows_VD = rows_VD.detach().float()
        if quantization == "8da4w":
            packed, scales = pack_rows_4bit(rows_VD)
        elif quantization == "8da8w":
            scales = (rows_VD.abs().amax(-1) / 127).clamp(min=1e-12)
            packed = (rows_VD / scales[:, None]).round().clamp(-127, 127).to(torch.int8)
        else:
            packed, scales = rows_VD, torch.ones(1)
        self.register_buffer("rows", packed)
        self.register_buffer("scales", scales)

    def forward(self, ids: Tensor) -> Tensor:
        if self.quantization == "8da4w":
            x = ops.embedding_4bit(ids, self.rows, self.scales, GROUP_SIZE)
        elif self.quantization == "8da8w":
            x = ops.embedding_8bit(ids, self.rows, self.scales)
        else:
            x = nn.functional.embedding(ids, self.rows)
        return x if self.multiplier == 1.0 else x * self.multiplier


class HeadBlock(nn.Module):
    """x [1, 1, D] of the last token -> logits [1, 1, V]."""

    def __init__(self, norm: RMSNorm, head: nn.Linear) -> None:
        super().__init__()
        self.norm, self.head = DeployedNorm(norm), head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(x))


class DeployedModel(nn.Module):
    """The complete candidate: ids [1, T], slots [N], pos [1] -> logits of the last token [1, 1, V]."""

    def __init__(self, embedding: nn.Module, steps: list[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.embedding, self.steps, self.head = embedding, nn.ModuleList(steps), head

    def forward(self, ids: Tensor, slots: Tensor, pos: Tensor) -> Tensor:
        x = self.embedding(ids)
        for step in self.steps:
            x = step(x, slots, pos) if isinstance(step, MixerBlock) else step(x)
        return self.head(x[:, -1:])


def deploy(model: HilnasForCausalLM, quantization: str) -> DeployedModel:
    """The export form of a (trained) model; its parameters are copied."""
    model = copy.deepcopy(model).eval()
    arch = model.config.to_arch()
    embedding = EmbeddingBlock(model.model.embed_tokens.weight, quantization, arch.embedding_multiplier)
    steps: list[nn.Module] = []
    num_states = 0
    for config, layer in zip(arch.layers, model.model.layers, strict=True):
        if layer.mixer is not None:
            steps.append(MixerBlock(layer, config.mixer.kind, num_states))
            num_states += len(config.mixer.states(arch.d_model))
        if layer.ffn is not None:
            steps.append(FfnBlock(layer))
    return DeployedModel(embedding, steps, HeadBlock(model.model.norm, _untied(model.lm_head)))


def _untied(head: nn.Linear) -> nn.Linear:
    """A separate copy of the head: quantizing it must not change the embedding rows that it is tied to."""
    copied = nn.Linear(head.in_features, head.out_features, bias=False)
    copied.weight = nn.Parameter(head.weight.detach().clone())
    return copied


def pack_rows_4bit(rows_VD: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric 4-bit rows in groups of 32: (packed uint8 [V, D/2], scales float32 [V, D/32])."""
    groups = rows_VD.unflatten(-1, (-1, GROUP_SIZE))
    scales = (groups.abs().amax(-1) / 7).clamp(min=1e-12)
    values = (groups / scales.unsqueeze(-1)).round().clamp(-8, 7).flatten(-2).to(torch.int16) + 8
    packed = (values[:, 0::2] | (values[:, 1::2] << 4)).to(torch.uint8)
    return packed, scales
