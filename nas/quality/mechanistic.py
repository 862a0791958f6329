"""Quality by mechanistic design: one proxy model learns all tasks together; its held-out accuracy is the score."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from contracts.study import QualityResult
from foundation.measurement_lock import MeasurementLock
from nas.quality.estimators import MechanisticOptions
from nas.quality.gates import require_above_floor, require_causal, require_chance
from nas.quality.intervals import half_width
from nas.quality.proxy import proxy_of
from nas.quality.rates import rates_of, warmup_cosine
from nas.quality.tasks import CHANCE, IGNORE, LENGTH, VOCAB_SIZE, Batch, make_batch, unannounced_recall
from search_space.arch import ArchConfig
from search_space.modeling.model import HilnasForCausalLM, build_model

ROWS = 12  # rows of every task in a step
RATES = {"attention": (1.5e-3, 4e-3), "mixed": (3e-3, 6e-3)}
WARMUP_SHARE = 0.1
EVALUATION_ROWS = 128
CHOOSING, SCORING, UNANNOUNCED = 98, 99, 97  # seeds of held-out batches: a rate is not chosen on what scores it


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


def estimate(arch: ArchConfig, options: MechanisticOptions, device: str | None = None) -> QualityResult:
    """Mean accuracy over tasks and seeds at the learning rate that did best on other batches.

    Raises BelowFloor when a seed does not beat guessing by the width of its interval, TooGood for a proxy that meets
    targets which nothing announces.
    """
    design = Design(arch, options, device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with MeasurementLock().shared():
        require_causal(design.proxy)
    seeds = list(range(options.seeds))
    rates = rates_of(arch, options.learning_rates, RATES)
    by_rate = {rate: [design.run(seed, rate) for seed in seeds] for rate in rates}
    rate = max(by_rate, key=lambda rate: sum(run.chosen_by for run in by_rate[rate]))
    runs = by_rate[rate]
    by_task = {task: sum(run.accuracies[task] for run in runs) / len(runs) for task in options.tasks}
    score = sum(by_task.values()) / len(by_task)
    worst = min(run.mean for run in runs)
    alone = half_width([worst], _standard_error(by_task, EVALUATION_ROWS))
    require_above_floor(worst, alone, CHANCE, "max", "guessing among the values gives")
    half = half_width([run.mean for run in runs], _standard_error(by_task, EVALUATION_ROWS * len(seeds)))
    return QualityResult(
        estimator="mechanistic", metric="quality", score=score, low=max(0.0, score - half), high=min(1.0, score + half),
        tasks=by_task, seeds=seeds, fidelity=f"{options.steps} steps at width {options.width}",
        details={"steps": options.steps, "width": options.width, "learning_rate": rate,
                 "by_rate": {f"{k:g}": round(sum(r.chosen_by for r in v) / len(v), 4) for k, v in by_rate.items()}},
    )  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One seed at one rate. ``chosen_by``: mean accuracy on the batches that choose the rate."""

    accuracies: dict[str, float]
    chosen_by: float

    @property
    def mean(self) -> float:
        return sum(self.accuracies.values()) / len(self.accuracies)


class Design:
    """The proxy of one architecture, trained on the tasks of ``options``."""

    def __init__(self, arch: ArchConfig, options: MechanisticOptions, device: str) -> None:
        self.options, self.tasks, self.device = options, options.tasks, device
        self.proxy = proxy_of(arch, options.width, VOCAB_SIZE, LENGTH)

    def run(self, seed: int, rate: float) -> Run:
        proxy = self._build(seed)
        self._train(proxy, seed, rate)
        self._require_chance(proxy)
        accuracies = {task: self._accuracy(proxy, task, SCORING) for task in self.tasks}
        return Run(accuracies, sum(self._accuracy(proxy, task, CHOOSING) for task in self.tasks) / len(self.tasks))

    def _build(self, seed: int) -> Proxy:
        model = build_model(self.proxy, seed=seed)
        for module in model.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
        return Proxy(
            model.to(self.device),  # type: ignore[arg-type]
            Decoder(self.options.width, 12).to(self.device),
        )

    def _train(self, proxy: Proxy, seed: int, rate: float) -> None:
        generator, lock = Generator().manual_seed(1000 + seed), MeasurementLock()
        optimizer = torch.optim.AdamW(proxy.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        proxy.model.train()
        for _ in range(self.options.steps):
            with lock.shared():
                loss = self._loss(proxy, [self._batch(task, ROWS, generator) for task in self.tasks])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(proxy.parameters(), 1.0)
                optimizer.step()
                schedule.step()

    def _rate(self, step: int) -> float:
        """Linear warm-up, cosine to a tenth."""
        return warmup_cosine(step, self.options.steps, max(1, int(self.options.steps * WARMUP_SHARE)), 0.1)

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
    def _accuracy(self, proxy: Proxy, task: str, seed: int) -> float:
        proxy.model.eval()
        batch = self._batch(task, EVALUATION_ROWS, Generator().manual_seed(seed))
        with MeasurementLock().shared():
            logits, targets = proxy.logits_and_targets(batch)
        return float((logits.argmax(-1) == targets).float().mean())

    @torch.no_grad()
    def _require_chance(self, proxy: Proxy) -> None:
        """The value of a key that was not seen before is random: only a model that reads ahead knows it."""
        proxy.model.eval()
        batch = unannounced_recall(EVALUATION_ROWS, Generator().manual_seed(UNANNOUNCED))
        batch = Batch(batch.tokens.to(self.device), batch.targets.to(self.device))
        with MeasurementLock().shared():
            logits, targets = proxy.logits_and_targets(batch)
        require_chance(int((logits.argmax(-1) == targets).sum()), len(targets), CHANCE, "unannounced_recall")

    def _batch(self, task: str, rows: int, generator: Generator) -> Batch:
        batch = make_batch(task, rows, generator)
        move = lambda x: None if x is None else x.to(self.device)  # noqa: E731
        return Batch(batch.tokens.to(self.device), batch.targets.to(self.device), move(batch.reconstruct))


def _standard_error(by_task: dict[str, float], num_rows: int) -> float:
    """Of the mean over tasks, from the binomial error of each over its held-out rows."""
    variances = [max(score * (1 - score), 1e-4) / num_rows for score in by_task.values()]
    return math.sqrt(sum(variances)) / len(variances)
