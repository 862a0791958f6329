"""A block learns to add what the parent's sublayer adds: normalized mean squared error on cached activations.

Blocks do not depend on each other, so they may be learned in any order and by any number of processes. Each is stored
under a digest of everything that shapes it, with the error that it reached on rows it did not learn from.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from foundation.files import atomic_path, write_atomically
from nas.parent.activations import Activations
from nas.parent.alternatives import (
    Alternative,
    Part,
    as_inherited,
    channel_importance,
    contribution,
    positions,
    start,
)
from nas.quality.rates import warmup_cosine
from search_space.modeling.model import HilnasForCausalLM, Layer

VERSION = 1
FINAL_SHARE = 0.05  # of the learning rate, at the last step
Turn = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class LearnSettings:
    """``rows`` a step; ``held_out`` of the cached rows, the last ones, give the error and are not learned from."""

    steps: int = 150
    rows: int = 4
    learning_rate: float = 2e-3
    warmup: int = 10
    held_out: int = 4
    seed: int = 0


@dataclass(frozen=True)
class LearntBlock:
    """``error`` is the squared error over the squared size of what the parent adds: 0 is equal, 1 is adding nothing.

    ``start_error`` is that of the inherited weights before the first step.
    """

    key: str
    alternative: dict[str, Any]
    label: str
    error: float
    start_error: float
    steps: int
    seconds: float


class BlockStore:
    """<key>.safetensors and <key>.json in one folder; files appear by rename, so that many processes may fill it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, key: str) -> LearntBlock | None:
        path = self.folder / f"{key}.json"
        return LearntBlock(**json.loads(path.read_text())) if path.exists() else None

    def weights(self, key: str, device: str = "cpu") -> dict[str, Tensor]:
        return load_file(self.folder / f"{key}.safetensors", device=device)

    def put(self, block: LearntBlock, weights: dict[str, Tensor]) -> None:
        """The record is written last and says that the weights are there."""
        with atomic_path(self.folder / f"{block.key}.safetensors") as partial:
            save_file({name: value.detach().cpu().contiguous() for name, value in weights.items()}, partial)
        write_atomically(self.folder / f"{block.key}.json", json.dumps(asdict(block), indent=1))


def block_key(alternative: Alternative, activations: Activations, settings: LearnSettings) -> str:
    """Names everything that a block's weights depend on."""
    told = [VERSION, activations.digest, alternative.to_dict(), asdict(settings)]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def given_key(parent: str, alternative: Alternative) -> str:
    """Of a block that came with the parent of digest ``parent``, however it was made."""
    told = ["given", parent, alternative.to_dict()]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def learn_all(
    model: HilnasForCausalLM, alternatives: Iterable[Alternative], activations: Activations, store: BlockStore,
    settings: LearnSettings, turn: Turn = nullcontext,
) -> dict[Alternative, LearntBlock]:  # fmt: skip
    """Every alternative that adds something; those that the store has are not learned again. ``turn`` is entered for
    each step, so that a measurement beside it can wait for its end."""
    found, device = {}, next(model.parameters()).device
    by_place: dict[tuple[int, Part], list[Alternative]] = {}
    for alternative in alternatives:
        if not alternative.absent:
            by_place.setdefault((alternative.layer, alternative.part), []).append(alternative)
    for (layer, part), group in by_place.items():
        cached = {one: store.get(block_key(one, activations, settings)) for one in group}
        pair = None
        for one in group:
            block = cached[one]
            if block is None:
                sides = activations.pair(layer, part)
                pair = pair or tuple(torch.from_numpy(np.array(side)).to(device) for side in sides)
                block = learn(model, one, pair, activations, store, settings, turn)
            found[one] = block
    return found


def learn(
    model: HilnasForCausalLM, alternative: Alternative, pair: tuple[Tensor, ...], activations: Activations,
    store: BlockStore, settings: LearnSettings, turn: Turn = nullcontext,
) -> LearntBlock:  # fmt: skip
    """Learns and stores one block; ``pair`` is what the sublayer reads and adds, [rows, length, d_model]."""
    begun, key, arch = time.monotonic(), block_key(alternative, activations, settings), model.config.to_arch()
    torch.manual_seed(int(key[:8], 16))
    parent: Layer = model.model.layers[alternative.layer]  # type: ignore[assignment]
    importance = None
    if alternative.part == "ffn":
        importance = channel_importance(parent, pair[0][: settings.rows].float())
    layer = start(alternative, parent, arch, importance)
    held = max(1, min(settings.held_out, len(pair[0]) // 2))
    learned_from, kept = [side[:-held] for side in pair], [side[-held:] for side in pair]
    start_error, steps = error_of(layer, alternative.part, kept), settings.steps
    if as_inherited(alternative, arch.layers[alternative.layer]):
        steps = 0
    if steps:
        _fit(layer, alternative.part, learned_from, settings, turn)
    error = error_of(layer, alternative.part, kept) if steps else start_error
    block = LearntBlock(
        key, alternative.to_dict(), alternative.label, error, start_error, steps, time.monotonic() - begun
    )
    store.put(block, layer.state_dict())
    return block


@torch.no_grad()
def error_of(layer: Layer, part: Part, pair: list[Tensor], at_once: int = 4) -> float:
    wrong, size = 0.0, 0.0
    for x_BTD, y_BTD in zip(*(side.split(at_once) for side in pair), strict=True):
        added = contribution(layer, part, x_BTD.float(), positions(x_BTD))
        wrong += float((added - y_BTD.float()).pow(2).sum())
        size += float(y_BTD.float().pow(2).sum())
    return wrong / max(size, 1e-12)


def _fit(layer: Layer, part: Part, pair: list[Tensor], settings: LearnSettings, turn: Turn) -> None:
    """AdamW on random rows; the squared error is divided by the mean square of the target over the first rows."""
    generator = torch.Generator().manual_seed(settings.seed)
    scale = pair[1][: settings.rows].float().pow(2).mean().clamp(min=1e-12)
    fused = pair[0].is_cuda
    optimizer = torch.optim.AdamW(layer.parameters(), settings.learning_rate, (0.9, 0.95), weight_decay=0, fused=fused)
    for step in range(settings.steps):
        rows = torch.randint(len(pair[0]), (settings.rows,), generator=generator).to(pair[0].device)
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * warmup_cosine(step, settings.steps, settings.warmup, FINAL_SHARE)
        with turn():
            x_BTD, y_BTD = (side[rows].float() for side in pair)
            loss = (contribution(layer, part, x_BTD, positions(x_BTD)) - y_BTD).pow(2).mean() / scale
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
            optimizer.step()


def weights_of(store: BlockStore, blocks: dict[Alternative, LearntBlock]) -> dict[Alternative, dict[str, Tensor]]:
    return {alternative: store.weights(block.key) for alternative, block in blocks.items()}
