"""The loop that trains a candidate on text: small for the ``text`` estimator, long for the ground truth it is held
against. It needs torch and the search space alone, so that it also runs where nothing else is installed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nas.quality.rates import warmup_cosine
from nas.quality.text.data import TextTensors
from search_space.arch import ArchConfig
from search_space.modeling.model import HilnasForCausalLM, build_model

POSITIONS = (0, 32, 64, 128, 256, 512, 1024, 2048)  # edges of the ranges that losses are reported by
CURVE_POINTS = 25
EVALUATION_BATCH = 32
LN2 = math.log(2)
Around = Callable[[], AbstractContextManager[None]]


class OutOfTime(Exception):
    """The deadline passed before the last step."""


@dataclass(frozen=True)
class TextRun:
    """How one model is trained: ``tokens`` in all, in steps of ``rows`` x ``length``; warm-up, then cosine."""

    tokens: int
    learning_rate: float
    seed: int = 0
    rows: int = 32
    length: int = 512
    warmup_share: float = 0.05
    final_share: float = 0.1
    weight_decay: float = 0.1
    evaluation_rows: int = 512

    @property
    def steps(self) -> int:
        return max(1, self.tokens // (self.rows * self.length))

    def rate_at(self, step: int) -> float:
        """Linear warm-up to ``learning_rate``, then a cosine down to ``final_share`` of it."""
        warmup = max(1, round(self.steps * self.warmup_share))
        return self.learning_rate * warmup_cosine(step, self.steps, warmup, self.final_share)


@dataclass(frozen=True)
class HeldOut:
    """Bits per byte of held-out text: in all, by range of positions, and the standard error over rows."""

    bits_per_byte: float
    standard_error: float
    by_position: dict[str, float]


@dataclass
class Trained:
    """``curve``: pairs of tokens and the mean training loss (nats) since the last pair. ``at_tokens``: held-out bits
    per byte on the way there, by tokens read."""

    held_out: HeldOut
    tokens: int
    seconds: float
    curve: list[tuple[int, float]] = field(default_factory=list)
    at_tokens: dict[int, float] = field(default_factory=dict)


def train_on_text(
    arch: ArchConfig,
    text: TextTensors,
    run: TextRun,
    *,
    autocast: bool = False,
    stops: Sequence[float] = (),
    deadline: float = math.inf,
    around_step: Around = nullcontext,
    prepare: Callable[[HilnasForCausalLM], None] = lambda _: None,
) -> Trained:
    """Trains one model of ``arch`` from scratch.

    ``stops``: shares of the run at which held-out text is read too. ``around_step`` holds a lock for each step and each
    batch of held-out text;
    ``prepare`` may put faster, equal parts in. Raises OutOfTime when ``time.monotonic()`` passes ``deadline``.
    """
    model = initialized(arch, run.seed).to(text.device)  # type: ignore[arg-type]
    prepare(model)
    optimizer = _optimizer(model, run)
    starts = text.order(run.steps * run.rows, run.seed).view(run.steps, run.rows)
    wanted = {max(1, round(share * run.steps)) for share in stops} - {run.steps}
    losses: list[Tensor] = []
    result = Trained(HeldOut(math.nan, math.nan, {}), run.steps * run.rows * run.length, 0.0)
    begin = time.monotonic()
    for step in range(run.steps):
        if time.monotonic() > deadline:
            raise OutOfTime(f"step {step} of {run.steps}")
        with around_step():
            losses.append(_step(model, optimizer, text.training_rows(starts[step]), run.rate_at(step), autocast))
        if step + 1 in wanted:
            tokens = (step + 1) * run.rows * run.length
            result.at_tokens[tokens] = held_out_bits(model, text, 64, autocast, around_step).bits_per_byte
    result.curve = _curve(torch.stack(losses), run)
    result.held_out = held_out_bits(model, text, run.evaluation_rows, autocast, around_step)
    result.seconds = time.monotonic() - begin
    return result


def initialized(arch: ArchConfig, seed: int) -> HilnasForCausalLM:
    """Linears of deviation 1/sqrt(inputs), those that end a residual branch smaller by sqrt(2 x depth): narrow models
    hardly start from the 0.02 of wide ones."""
    model = build_model(arch, seed=seed)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            ends = name.endswith(("w2", "o_proj", "out_proj"))
            nn.init.normal_(module.weight, std=(module.in_features * (2 * arch.depth if ends else 1)) ** -0.5)
    return model


@torch.no_grad()
def held_out_bits(
    model: HilnasForCausalLM,
    text: TextTensors,
    num_rows: int,
    autocast: bool = False,
    around_step: Around = nullcontext,
) -> HeldOut:
    """Reads ``num_rows`` rows of held-out text (or as many as there are)."""
    model.eval()
    nats, sizes = [], []
    for rows in text.held_out_rows(num_rows).split(EVALUATION_BATCH):
        with around_step():
            nats.append(_losses(model, rows, autocast, "none").view(len(rows), -1).double())
        sizes.append(text.num_bytes[rows[:, 1:]].double())
    model.train()
    bits_RT, bytes_RT = torch.cat(nats) / LN2, torch.cat(sizes)
    bits = float(bits_RT.sum() / bytes_RT.sum())
    apart = bits_RT.sum(1) - bits * bytes_RT.sum(1)  # linearized ratio estimator
    error = float(apart.std() * len(apart) ** 0.5 / bytes_RT.sum()) if len(apart) > 1 else math.nan
    edges = [edge for edge in POSITIONS if edge < text.length] + [text.length]
    by_position = {
        f"{low}-{high}": float(bits_RT[:, low:high].sum() / bytes_RT[:, low:high].sum())
        for low, high in zip(edges, edges[1:], strict=False)
    }
    return HeldOut(bits, error, by_position)


def _optimizer(model: HilnasForCausalLM, run: TextRun) -> torch.optim.Optimizer:
    """Weight decay on matrices only."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    matrices, others = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": run.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=run.learning_rate, betas=(0.9, 0.95), fused=True)


def _step(
    model: HilnasForCausalLM, optimizer: torch.optim.Optimizer, rows: Tensor, rate: float, autocast: bool
) -> Tensor:
    """One update; the loss stays on the device, so that nothing waits for it."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    loss = _losses(model, rows, autocast, "mean")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.detach()


def _losses(model: HilnasForCausalLM, rows: Tensor, autocast: bool, reduction: str) -> Tensor:
    """Nats of the next tokens of [rows, length + 1]."""
    with torch.autocast(rows.device.type, torch.bfloat16, enabled=autocast):
        logits = model.lm_head(model.model(rows[:, :-1])).flatten(0, 1)
        return nn.functional.cross_entropy(logits.float(), rows[:, 1:].flatten(), reduction=reduction)


def _curve(losses: Tensor, run: TextRun) -> list[tuple[int, float]]:
    size = max(1, len(losses) // CURVE_POINTS)
    parts = losses.float().cpu().split(size)
    return [
        (min((i + 1) * size, len(losses)) * run.rows * run.length, round(float(part.mean()), 5))
        for i, part in enumerate(parts)
    ]
