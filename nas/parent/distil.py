"""A short global distillation: a composed candidate learns its parent's distribution on training text."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foundation.errors import InvalidConfig
from nas.parent.learn import FINAL_SHARE, Turn
from nas.quality.rates import warmup_cosine
from search_space.modeling.model import HilnasForCausalLM


@dataclass(frozen=True)
class DistilSettings:
    """``rows`` of ``length`` tokens a step."""

    steps: int = 150
    rows: int = 4
    length: int = 2048
    learning_rate: float = 1e-3
    warmup: int = 10
    seed: int = 0


def distil(
    model: HilnasForCausalLM,
    parent: HilnasForCausalLM,
    stream: NDArray[Any],
    settings: DistilSettings,
    turn: Turn = nullcontext,
) -> HilnasForCausalLM:
    """``model`` itself, changed in place: the mean divergence from the parent over its whole vocabulary goes down."""
    if len(stream) <= settings.length:
        raise InvalidConfig(f"distillation at length {settings.length} needs more text than {len(stream)} tokens")
    rng, device = np.random.default_rng(settings.seed), model.device
    optimizer = torch.optim.AdamW(
        model.parameters(), settings.learning_rate, (0.9, 0.95), weight_decay=0, fused=device.type == "cuda"
    )
    for step in range(settings.steps):
        firsts = rng.integers(len(stream) - settings.length, size=settings.rows)
        rows_BT = np.stack([stream[first : first + settings.length] for first in firsts]).astype(np.int64)
        ids_BT = torch.as_tensor(rows_BT, device=device)
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * warmup_cosine(step, settings.steps, settings.warmup, FINAL_SHARE)
        with turn():
            optimizer.zero_grad(set_to_none=True)
            divergence(model, parent, ids_BT).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    return model.eval()


def divergence(model: HilnasForCausalLM, parent: HilnasForCausalLM, ids_BT: Tensor) -> Tensor:
    """Mean KL(parent || model) over tokens in nats; in bfloat16 products on a GPU."""
    with torch.autocast(ids_BT.device.type, torch.bfloat16, enabled=ids_BT.is_cuda):
        with torch.no_grad():
            theirs_BTV = parent.lm_head(parent.model(ids_BT)).float().log_softmax(-1)
        mine_BTV = model.lm_head(model.model(ids_BT)).float().log_softmax(-1)
    mine_NV, theirs_NV = mine_BTV.flatten(0, 1), theirs_BTV.flatten(0, 1)
    return torch.nn.functional.kl_div(mine_NV, theirs_NV, reduction="batchmean", log_target=True)
