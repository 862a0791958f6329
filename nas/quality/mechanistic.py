"""Quality by mechanistic design: one proxy model learns all tasks together; its held-out accuracy is the score."""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import dataclass

import torch
from scipy.stats import t as student_t
from torch import Generator, Tensor, nn

from contracts.study import QualityResult, QualitySpec
from foundation.errors import InvalidConfig
from foundation.measurement_lock import MeasurementLock
from nas.quality.proxy import proxy_of
from nas.quality.tasks import IGNORE, TASKS, VOCAB_SIZE, Batch, make_batch
from search_space.arch import ArchConfig
from search_space.modeling.model import HilnasForCausalLM, build_model

ROWS = 12  # rows of every task in a step
LEARNING_RATE = 3e-3
WARMUP_SHARE = 0.1
EVALUATION_ROWS = 128
VERSION = 1


class Decoder(nn.Module):
    """Reads symbol i back from one hidden state: an MLP over the state plus a position vector (compression task)."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(count, width) * 0.02)
        self.layers = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, VOCAB_SIZE))

    def forward(self, state_BD: Tensor) -> Tensor:
        return self.layers(state_BD.unsqueeze(1) + self.positions)


@dataclass
class Proxy:
    model: HilnasForCausalLM
    decoder: Decoder

    def parameters(self) -> list[nn.Parameter]:
        return [*self.model.parameters(), *self.decoder.parameters()]

    def logits_and_targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Scored positions only: [N, V] and [N]."""
        hidden = self.model.model(batch.tokens)
        if batch.reconstruct is not None:
            return self.decoder(hidden[:, -1]).flatten(0, 1), batch.reconstruct.flatten()
        scored = batch.targets != IGNORE
        return self.model.lm_head(hidden[scored]), batch.targets[scored]


class MechanisticDesign:
    """Implements ``Quality``. Empty ``tasks`` means all six; the score is the mean accuracy over tasks and seeds."""

    def __init__(self, spec: QualitySpec, device: str | None = None) -> None:
        unknown = sorted(set(spec.tasks) - set(TASKS))
        if unknown:
            raise InvalidConfig(f"unknown task {unknown[0]!r}; known tasks: {', '.join(TASKS)}")
        if spec.width % 32:
            raise InvalidConfig(f"the proxy's width must be a multiple of 32, got {spec.width}")
        self.spec = spec
        self.tasks = spec.tasks or list(TASKS)
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def key(self) -> str:
        fields = {**self.spec.model_dump(), "tasks": self.tasks, "version": VERSION}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:24]

    def judge(self, arch: ArchConfig) -> QualityResult:
        start = time.monotonic()
        seeds = list(range(self.spec.seeds))
        runs = [self._one_seed(arch, seed) for seed in seeds]
        by_task = {task: sum(run[task] for run in runs) / len(runs) for task in self.tasks}
        means = [sum(run.values()) / len(run) for run in runs]
        score = sum(means) / len(means)
        half = _half_width(means, len(self.tasks) * EVALUATION_ROWS)
        return QualityResult(
            estimator="mechanistic", score=score, low=max(0.0, score - half), high=min(1.0, score + half),
            tasks=by_task, seeds=seeds, seconds=time.monotonic() - start,
            details={"steps": self.spec.steps, "width": self.spec.width},
        )  # fmt: skip

    def _one_seed(self, arch: ArchConfig, seed: int) -> dict[str, float]:
        proxy = self._build(arch, seed)
        self._train(proxy, seed)
        return {task: self._accuracy(proxy, task) for task in self.tasks}

    def _build(self, arch: ArchConfig, seed: int) -> Proxy:
        model = build_model(proxy_of(arch, self.spec.width), seed=seed)
        for module in model.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
        return Proxy(
            model.to(self.device),  # type: ignore[arg-type]
            Decoder(self.spec.width, 12).to(self.device),
        )

    def _train(self, proxy: Proxy, seed: int) -> None:
        generator, lock = Generator().manual_seed(1000 + seed), MeasurementLock()
        optimizer = torch.optim.AdamW(proxy.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        proxy.model.train()
        for _ in range(self.spec.steps):
            with lock.shared():
                loss = self._loss(proxy, [self._batch(task, ROWS, generator) for task in self.tasks])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(proxy.parameters(), 1.0)
                optimizer.step()
                schedule.step()

    def _rate(self, step: int) -> float:
        """Linear warm-up, cosine to a tenth."""
        warmup = max(1, int(self.spec.steps * WARMUP_SHARE))
        if step < warmup:
            return (step + 1) / warmup
        return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warmup) / max(1, self.spec.steps - warmup)))

    def _loss(self, proxy: Proxy, batches: list[Batch]) -> Tensor:
        """Mean over tasks of the mean over scored positions. All token rows go through the model in one pass."""
        hidden = proxy.model.model(torch.cat([batch.tokens for batch in batches]))
        losses = []
        for batch, states in zip(batches, hidden.split([len(batch.tokens) for batch in batches]), strict=True):
            if batch.reconstruct is not None:
                logits, targets = proxy.decoder(states[:, -1]).flatten(0, 1), batch.reconstruct.flatten()
            else:
                scored = batch.targets != IGNORE
                logits, targets = proxy.model.lm_head(states[scored]), batch.targets[scored]
            losses.append(nn.functional.cross_entropy(logits, targets))
        return torch.stack(losses).mean()

    @torch.no_grad()
    def _accuracy(self, proxy: Proxy, task: str) -> float:
        proxy.model.eval()
        batch = self._batch(task, EVALUATION_ROWS, Generator().manual_seed(99))
        logits, targets = proxy.logits_and_targets(batch)
        return float((logits.argmax(-1) == targets).float().mean())

    def _batch(self, task: str, rows: int, generator: Generator) -> Batch:
        batch = make_batch(task, rows, generator)
        move = lambda x: None if x is None else x.to(self.device)  # noqa: E731
        return Batch(batch.tokens.to(self.device), batch.targets.to(self.device), move(batch.reconstruct))


def _half_width(means: list[float], num_rows: int) -> float:
    """95 % half width: between seeds if there are several, else the binomial bound of the evaluation rows."""
    score = sum(means) / len(means)
    binomial = 1.96 * math.sqrt(max(score * (1 - score), 1e-4) / num_rows)
    if len(means) == 1:
        return binomial
    variance = sum((mean - score) ** 2 for mean in means) / (len(means) - 1)
    quantile = float(student_t.ppf(0.975, len(means) - 1))
    return max(binomial, quantile * math.sqrt(variance / len(means)))
