"""Training on pairs: the reference is asked once, before the first step; both sides of a pair are read together.

Shapes: P pairs, N tokens of answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foundation.measurement_lock import MeasurementLock
from search_space.modeling.model import HilnasForCausalLM
from trainer.data.packing import order
from trainer.engine.config import LoopConfig
from trainer.engine.updates import Updater
from trainer.losses.preference import Loss
from trainer.pipeline.records import Records
from trainer.preference.pairs import Pair
from trainer.rollout.logprobs import MaskedRows, logprobs_of, padded

REFERENCE = "reference.npy"


def read(model: HilnasForCausalLM, pairs: Sequence[Pair], autocast: bool = False) -> tuple[Tensor, Tensor]:
    """Mean log-probability per token of the chosen and of the rejected answers, both [P]."""
    rows = said(pairs, model.lm_head.weight.device)
    means = rows.sums(logprobs_of(model, rows, autocast=autocast)) / rows.lengths_B
    return means[: len(pairs)], means[len(pairs) :]


def said(pairs: Sequence[Pair], device: torch.device) -> MaskedRows:
    """All chosen, then all rejected."""
    rows = [(p.prompt, p.chosen) for p in pairs] + [(p.prompt, p.rejected) for p in pairs]
    ids = [[*prompt, *answer] for prompt, answer in rows]
    return padded(ids, [[False] * len(prompt) + [True] * len(answer) for prompt, answer in rows], device)


def train_on_pairs(
    model: HilnasForCausalLM, pairs: Sequence[Pair], loss: Loss, beta: float, config: LoopConfig,
    folder: Path, progress: Callable[[float, str], None] = lambda *_: None,
) -> None:  # fmt: skip
    """``config.batch`` pairs a step, each epoch in another order. Goes on from the last checkpoint in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    updater = Updater(model, config, folder / "checkpoints")
    reference_P2 = _reference(model, pairs, config, folder / REFERENCE, updater.step)
    curve = Records(folder / "curve.jsonl")
    curve.keep_until(updater.step)
    model.train()
    while updater.step < config.steps:
        step, chosen = updater.step, order(len(pairs), updater.step * config.batch, config.batch, config.seed)
        ratios_seen: list[tuple[Tensor, Tensor]] = []
        with MeasurementLock().shared():
            total, norm = updater.update(_losses(model, pairs, reference_P2, chosen, loss, beta, config, ratios_seen))
        ratios = [torch.cat(side) for side in zip(*ratios_seen, strict=True)]
        tokens = sum(len(pairs[i].chosen) + len(pairs[i].rejected) + 2 * len(pairs[i].prompt) for i in chosen)
        figures = {
            "loss": total, "accuracy": float((ratios[0] > ratios[1]).float().mean()), "chosen": float(ratios[0].mean()),
            "rejected": float(ratios[1].mean()), "gradient_norm": norm, "tokens": tokens,
        }  # fmt: skip
        curve.add(step=step, **figures)
        updater.finish_step()
        progress(updater.step / config.steps, f"step {updater.step} of {config.steps}, loss {total:.3f}")
    model.eval()


def _losses(
    model: HilnasForCausalLM, pairs: Sequence[Pair], reference_P2: NDArray[np.float32], chosen: NDArray[np.int64],
    loss: Loss, beta: float, config: LoopConfig, ratios_seen: list[tuple[Tensor, Tensor]],
) -> Iterator[Tensor]:  # fmt: skip
    """Of micro-batches, as their share of the step's mean; ``ratios_seen`` gets the log-ratios per token."""
    for at in range(0, len(chosen), config.micro_batch):
        part = chosen[at : at + config.micro_batch]
        better, worse = read(model, [pairs[i] for i in part], config.autocast)
        known = torch.from_numpy(reference_P2[part]).to(better)
        ratios = better - known[:, 0], worse - known[:, 1]
        ratios_seen.append((ratios[0].detach(), ratios[1].detach()))
        yield loss(*ratios, beta).sum() / len(chosen)


def _reference(
    model: HilnasForCausalLM, pairs: Sequence[Pair], config: LoopConfig, path: Path, step: int
) -> NDArray[np.float32]:
    """What the model says before it learns; kept, because a resumed run has other weights."""
    if step and path.exists():
        return np.load(path)
    model.eval()
    parts = []
    with torch.no_grad(), MeasurementLock().shared():
        for at in range(0, len(pairs), config.micro_batch):
            parts.append(torch.stack(read(model, pairs[at : at + config.micro_batch], config.autocast), 1).cpu())
    found = torch.cat(parts).numpy()
    np.save(path, found)
    return found
