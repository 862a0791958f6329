"""The ``text`` estimator: learning rates audition on a share of the tokens, the best one is trained in full."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from contracts.study import QualityResult
from foundation.measurement_lock import MeasurementLock
from nas.quality.estimators import TextOptions
from nas.quality.gates import require_above_floor, require_causal, require_possible_bits
from nas.quality.intervals import half_width
from nas.quality.proxy import proxy_of
from nas.quality.rates import rates_of
from nas.quality.text.data import TextTensors
from nas.quality.text.fused import use_fused_parts
from nas.quality.text.training import TextRun, Trained, train_on_text
from nas.quality.texts import TEXTS
from search_space.arch import ArchConfig

RATES = {"attention": (3e-3, 6e-3), "mixed": (4e-3, 8e-3)}


@dataclass(frozen=True)
class Reading:
    """A text on a device, and what a model reaches that knows only how frequent each token is."""

    tensors: TextTensors
    vocab_size: int
    unigram_bits: float


def estimate(arch: ArchConfig, options: TextOptions, device: str | None = None) -> QualityResult:
    """Raises BelowFloor when a seed does not beat token frequencies by the width of its interval, TooGood for a proxy
    that no model could be."""
    reading = _reading(options.text, options.length, device or ("cuda" if torch.cuda.is_available() else "cpu"))
    proxy = proxy_of(arch, options.width, reading.vocab_size, options.length, options.context)
    with MeasurementLock().shared():
        require_causal(proxy)
    rate, auditions = _best_rate(proxy, reading, options, rates_of(arch, options.learning_rates, RATES))
    runs = [_trained(proxy, reading, options, rate, seed, 1.0) for seed in range(options.seeds)]
    bits = [run.held_out.bits_per_byte for run in runs]
    score = sum(bits) / len(bits)
    error = max(run.held_out.standard_error for run in runs)
    worst = max(bits)
    require_above_floor(
        worst, half_width([worst], error), reading.unigram_bits, "min", "the frequency of tokens alone gives"
    )
    require_possible_bits(score)
    half = half_width(bits, error)
    positions = {name: sum(run.held_out.by_position[name] for run in runs) / len(runs)
                 for name in runs[0].held_out.by_position}  # fmt: skip
    return QualityResult(
        estimator="text", metric="bits_per_byte", score=score, low=score - half, high=score + half,
        tasks={f"positions {name}": value for name, value in positions.items()}, seeds=list(range(options.seeds)),
        fidelity=f"{runs[0].tokens} tokens at width {options.width}",
        details={"learning_rate": rate, "auditions": {f"{k:g}": round(v, 4) for k, v in auditions.items()},
                 "unigram_bits": round(reading.unigram_bits, 4)},
    )  # fmt: skip


def _best_rate(
    proxy: ArchConfig, reading: Reading, options: TextOptions, rates: list[float]
) -> tuple[float, dict[float, float]]:
    """Successive halving with one step: every rate trains for the audition's share, schedule and all."""
    if len(rates) == 1:
        return rates[0], {}
    found = {
        rate: _trained(proxy, reading, options, rate, 0, options.audition).held_out.bits_per_byte for rate in rates
    }
    return min(found, key=found.__getitem__), found


def _trained(
    proxy: ArchConfig, reading: Reading, options: TextOptions, rate: float, seed: int, share: float
) -> Trained:
    run = TextRun(
        round(options.tokens * share), rate, seed, options.rows, options.length,
        evaluation_rows=options.evaluation_rows if share == 1.0 else max(16, options.evaluation_rows // 4),
    )  # fmt: skip
    on_gpu = reading.tensors.device.startswith("cuda")
    return train_on_text(
        proxy, reading.tensors, run, autocast=on_gpu, around_step=MeasurementLock().shared, prepare=use_fused_parts
    )


@lru_cache(maxsize=4)
def _reading(text: str, length: int, device: str) -> Reading:
    with MeasurementLock().shared():
        data = TEXTS.get_or_raise(text)()
    return Reading(TextTensors(data, length, device), data.vocab_size, data.unigram_bits())
