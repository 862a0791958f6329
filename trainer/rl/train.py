"""Rounds of episodes and updates on them, from the last checkpoint, with the curriculum saved beside the weights.

Shapes: N tokens that the model said.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foundation.measurement_lock import MeasurementLock
from search_space.modeling.model import HilnasForCausalLM
from trainer.engine.config import LoopConfig
from trainer.engine.updates import Updater
from trainer.pipeline.records import Records
from trainer.rl.config import RlConfig
from trainer.rl.curriculum import Curriculum
from trainer.rl.groups import Group, Round, Sampling, gather
from trainer.rl.objective import Batch, Surrogate, batch_of, read, surrogate
from trainer.rollout.prefix_cache.cache import PrefixCache
from trainer.tasks.agent import PYTHON

PREFIX_BYTES, BLOCK_TOKENS = 256 << 20, 256  # prompts are short: only their ends are worth keeping


def reinforce(
    model: HilnasForCausalLM, tokenizer: Any, tasks: tuple[str, ...], most_level: int, sampling: Sampling,
    levers: RlConfig, config: LoopConfig, updates: int, folder: Path,
    progress: Callable[[float, str], None] = lambda *_: None,
) -> Curriculum:  # fmt: skip
    """``config.steps`` rounds of ``updates`` optimizer steps each; ``config.micro_batch`` episodes are read at once.
    Returns the curriculum as it ended."""
    updater = Updater(model, config, folder / "checkpoints")
    curriculum = Curriculum(tasks, most_level, levers.curriculum, updater.state)
    folder.mkdir(parents=True, exist_ok=True)
    curve = Records(folder / "curve.jsonl")
    curve.keep_until(updater.step)
    prefixes = PrefixCache(PREFIX_BYTES, BLOCK_TOKENS, keep_completions=True)
    while updater.step < config.steps:
        before = Counter(PYTHON.outcomes)
        with MeasurementLock().shared():
            seed = (config.seed, updater.step)
            found = gather(model, tokenizer, curriculum, sampling, levers, seed, prefixes.of(updater.step))
            figures = _learn(updater, found, sampling, levers, config, updates)
        curriculum.learn(found.successes)
        levels = {name: task.level for name, task in curriculum.tasks.items()}
        curve.add(step=updater.step, **_counts(found), **figures, **_reused(prefixes), levels=levels,
                  python_calls=dict(PYTHON.outcomes - before))  # fmt: skip
        updater.finish_step(curriculum.to_dict())
        _give_back_memory()
        progress(updater.step / config.steps, f"round {updater.step} of {config.steps}, success {found.success:.3f}")
    model.eval()
    return curriculum


def _learn(
    updater: Updater, found: Round, sampling: Sampling, levers: RlConfig, config: LoopConfig, updates: int
) -> dict[str, float]:
    """The kept groups in ``updates`` parts: the later ones meet weights that did not sample them, which is what the
    clipping is for. Groups of like lengths are read together. A round without groups changes nothing."""
    ordered = sorted(found.kept, key=lambda group: max(len(episode.ids) for episode in group.episodes))
    parts = [ordered[at::updates] for at in range(updates)]
    batches = [_micro_batches(part, levers, config, updater.processes.device) for part in parts if part]
    model, temperature = updater.model, sampling.play.temperature
    model.train()
    with torch.no_grad():  # the first part meets the weights that it is read with
        before: list[list[Tensor | None]] = [
            [read(model, b, temperature, config.autocast) if index else None for b in part]  # type: ignore[arg-type]
            for index, part in enumerate(batches)
        ]
    surrogates: list[Surrogate] = []
    norms = []
    for part, old in zip(batches, before, strict=True):
        if sum(batch.num_tokens for batch in part):
            norms.append(updater.update(_losses(model, part, old, temperature, levers, config, surrogates))[1])  # type: ignore[arg-type]
    return {
        "updates": float(len(norms)), "gradient_norm": float(np.mean(norms)) if norms else 0.0,
        "clipped": float(np.mean([one.clipped for one in surrogates])) if surrogates else 0.0,
        "importance": float(np.mean([one.importance for one in surrogates])) if surrogates else 1.0,
        "tokens": float(sum(batch.num_tokens for part in batches for batch in part)),
    }  # fmt: skip


def _micro_batches(groups: Sequence[Group], levers: RlConfig, config: LoopConfig, device: torch.device) -> list[Batch]:
    per = max(1, config.micro_batch // len(groups[0].episodes))
    return [batch_of(groups[at : at + per], levers, device) for at in range(0, len(groups), per)]


def _losses(
    model: HilnasForCausalLM, part: Sequence[Batch], old: Sequence[Tensor | None], temperature: float, levers: RlConfig,
    config: LoopConfig, surrogates: list[Surrogate],
) -> Iterator[Tensor]:  # fmt: skip
    """Every token of the update weighs the same."""
    total = sum(batch.num_tokens for batch in part)
    for batch, old_N in zip(part, old, strict=True):
        new_N = read(model, batch, temperature, config.autocast)
        found = surrogate(new_N, new_N.detach() if old_N is None else old_N, batch, levers)
        surrogates.append(found)
        yield found.loss_N.sum() / total


def _give_back_memory() -> None:
    """No two rounds have tensors of the same sizes; glibc keeps the freed ones, gigabytes after a few dozen rounds."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _reused(prefixes: PrefixCache) -> dict[str, float]:
    """Since this process began with the stage."""
    found = prefixes.statistics
    return {"prefix_reused": round(found.share_reused, 4), "prefix_seconds_saved": round(found.seconds_saved, 3)}


def _counts(found: Round) -> dict[str, Any]:
    return {
        "success": round(found.success, 4), "reward": round(float(np.mean(found.rewards)), 4) if found.rewards else 0.0,
        "drawn": found.drawn, "filtered": found.filtered, "refilled": found.refilled, "kept": len(found.kept),
        "spoiled": found.spoiled, "too_long": found.too_long, "unfinished": found.unfinished,
    }  # fmt: skip
