"""The loop: cross-entropy, balanced with distillation where a teacher spoke; the same numbers however many processes
share the work, and whatever interrupts it.

Shapes: B rows, T tokens, K of the teacher's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foundation.errors import HilnasError
from foundation.measurement_lock import MeasurementLock
from trainer.data.packing import IGNORE, PackedStream, Rows
from trainer.engine.checkpoint import load, save
from trainer.engine.config import LoopConfig
from trainer.engine.processes import Processes, shard, synchronize_gradients
from trainer.losses.distillation import DistillationObjective
from trainer.pipeline.records import Records
from trainer.quantization.modules import begin_step
from trainer.teacher.model import answered
from trainer.teacher.topk_cache import TopKCache


class LossNotFinite(HilnasError):
    code = "loss_not_finite"


@dataclass(frozen=True)
class TrainingData:
    stream: PackedStream
    teacher: TopKCache | None = None

    def teacher_logprobs(self, starts: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Log-probabilities and ids [B, T, K] of the rows that start there."""
        assert self.teacher is not None
        parts = [self.teacher.read_padded(start, start + self.stream.length) for start in starts]
        return torch.stack([logprobs for logprobs, _ in parts]), torch.stack([ids for _, ids in parts])


def train(
    model: nn.Module,
    data: TrainingData,
    config: LoopConfig,
    folder: Path,
    processes: Processes,
    progress: Callable[[float, str], None] = lambda *_: None,
) -> list[float]:
    """Trains to ``config.steps`` from the newest checkpoint in ``folder``; returns the losses of this call's steps.

    Raises LossNotFinite before a bad step touches the weights; the checkpoint before it stays.
    """
    model = shard(model, processes).train()
    optimizer = adamw(model, config)
    start = load(folder / "checkpoints", model, optimizer, processes)
    curve = Records(folder / "curve.jsonl")
    if processes.first:
        curve.keep_until(start)
    losses = []
    # only the first process asks for quiet: others waiting for the lock inside a collective would wait for ever
    lock = MeasurementLock() if processes.first else None
    for step in range(start, config.steps):
        began = time.monotonic()
        begin_step(model, step)
        with lock.shared() if lock else nullcontext():
            parts, norm = _step(model, optimizer, data, config, step, processes)
        losses.append(parts["loss"])
        if processes.first:
            seconds = time.monotonic() - began
            curve.add(step=step, **parts, gradient_norm=norm, learning_rate=config.learning_rate * config.share(step),
                      tokens_per_s=round(config.batch * config.length / seconds, 1))  # fmt: skip
            progress((step + 1) / config.steps, f"step {step + 1} of {config.steps}, loss {parts['loss']:.3f}")
        if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
            save(folder / "checkpoints", step + 1, model, optimizer, processes)
    return losses


def _step(
    model: nn.Module, optimizer: torch.optim.Optimizer, data: TrainingData, config: LoopConfig, step: int,
    processes: Processes,
) -> tuple[dict[str, float], float]:  # fmt: skip
    """One update; losses are means over every labelled token of the whole step."""
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * config.share(step)
    indices = config.rows_of(step, data.stream.num_rows)
    num_tokens = max(1, int((data.stream.rows(indices).labels_BT != IGNORE).sum()))
    micro_batches = config.micro_batches(processes.rank, processes.world)
    sums = torch.zeros(4, dtype=torch.float64)
    for at, part in enumerate(micro_batches):
        synchronize_gradients(model, last=at + 1 == len(micro_batches))
        losses = _losses(model, data, data.stream.rows(indices[part]), config, num_tokens, processes.device)
        # FSDP2 averages over processes what is a sum here
        (losses[0] * processes.world).backward()
        sums += losses.detach().cpu().double()
    loss, cross_entropy, mass, conditional = processes.sum(sums).tolist()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
    norm_value = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
    check_finite(loss, norm_value, step, config)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return {"loss": loss, "cross_entropy": cross_entropy, "mass": mass, "conditional": conditional}, norm_value


def check_finite(loss: float, norm: float, step: int, config: LoopConfig) -> None:
    """Raises LossNotFinite, before the optimizer has touched a weight."""
    if math.isfinite(loss) and math.isfinite(norm):
        return
    advice = f"a lower learning rate than {config.learning_rate} may help"
    raise LossNotFinite(
        f"the loss became {loss} (gradient norm {norm}) at step {step};"
        f" {advice if step else 'the weights that it begins with are broken, or its data'}"
    )


def _losses(
    model: nn.Module, data: TrainingData, rows: Rows, config: LoopConfig, num_tokens: int, device: torch.device
) -> Tensor:
    """Loss, cross-entropy, mass and conditional term of some rows, as their share of the step's means."""
    ids, labels, segments, positions = (
        tensor.to(device) for tensor in (rows.ids_BT, rows.labels_BT, rows.segments_BT, rows.positions_BT)
    )
    context = torch.autocast(device.type, torch.bfloat16) if config.autocast else nullcontext()
    with context:
        logits = model(ids, seq_idx=segments, position_ids=positions, use_cache=False).logits
    if data.teacher is None or config.kd_weight == 0:
        loss = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORE, reduction="sum"
        )
        return torch.stack((loss / num_tokens, loss.detach() / num_tokens, *torch.zeros(2, device=device)))
    logprobs, top_ids = (tensor.to(device) for tensor in data.teacher_logprobs(rows.starts))
    known = answered(logprobs)
    distilled = DistillationObjective(config.temperature, config.kd_weight)(
        logits, logprobs, top_ids, labels.where(known, IGNORE), num_tokens
    )
    rest = torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), labels.where(~known, IGNORE).flatten(), ignore_index=IGNORE, reduction="sum"
    )
    cross_entropy = distilled.cross_entropy + rest / num_tokens
    # where the teacher said nothing the label counts in full: otherwise these tokens would weigh half
    return torch.stack((distilled.loss + rest / num_tokens, cross_entropy, distilled.mass, distilled.conditional))


def adamw(model: nn.Module, config: LoopConfig) -> torch.optim.AdamW:
    """Norms and other vectors are not decayed."""
    parameters = list(model.parameters())
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, eps=1e-8)
