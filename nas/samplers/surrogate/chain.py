"""Costs of chains whose blocks were timed too: a few rows determine every block that they contain.

The time of a block inside a chain is an observation of the block's weight. A chain then costs what its blocks do, times
a factor (a median over tokens against a mean), plus an intercept (embedding, head, what lies between blocks), plus what
is left. All of it is one Bayesian linear model, so that a block that was never timed makes predictions doubtful.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.linalg import block_diag, cho_factor, cho_solve

from nas.samplers.surrogate.structure import Floats

NOISES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)  # of a chain, as a share of the mean cost, tried in turn
MISFITS = (0.003, 0.03, 0.2)  # how far a block's share of a chain is from its time, over a typical block's
LEAST_SPREAD, LEAST_TIME = 0.005, 0.05  # of the times of one block, as a share of them; of a block, over a typical one
LEAST_LOG_WEIGHT = 4.0  # settings less likely than the best by more than this do not count
FACTOR_DEVIATION, SHARED_DEVIATION = 0.5, 0.3  # priors of the factor, and of each shared value over the mean cost


@dataclass(frozen=True)
class BlockWeights:
    """Mean [W] and covariance [W, W] of the columns of ``Structure.blocks`` that count blocks; ``typical`` is the mean
    time of a timed block."""

    mean: Floats
    covariance: Floats
    typical: float

    @classmethod
    def fit(cls, features: Floats, times: Floats, num_kinds: int) -> BlockWeights:
        """From timed blocks: ``features`` [T, W] and ``times`` [T]. A block that was not timed is a typical one, with a
        deviation as large. The columns after the first ``num_kinds`` are differences under other shared values."""
        typical = float(times[times > 0].mean()) if (times > 0).any() else 1.0
        prior = np.where(np.arange(features.shape[1]) < num_kinds, typical, 0.0)
        size = np.maximum(times, LEAST_TIME * typical)
        freedom = max(1, len(times) - int((features != 0).any(axis=0).sum()))
        spread = LEAST_SPREAD
        for _ in range(3):  # the spread of one block's times about their mean is itself estimated
            x = features / (spread * size)[:, None]
            factor = cho_factor(x.T @ x + np.eye(len(prior)) / typical**2)
            mean = prior + cho_solve(factor, x.T @ ((times - features @ prior) / (spread * size)))
            spread = max(LEAST_SPREAD, float(np.sqrt(np.sum(((times - features @ mean) / size) ** 2) / freedom)))
        return cls(mean, cho_solve(factor, np.eye(len(prior))), typical)


@dataclass(frozen=True)
class Setting:
    """One setting of noise and misfit, and its ``share`` of the belief: ``mean`` and ``covariance`` of the columns of
    ``Structure.blocks`` [B] and of the factor."""

    mean: Floats
    covariance: Floats
    noise: float
    share: float


@dataclass(frozen=True)
class ChainModel:
    """Predicts as ``AdditiveModel``. A few rows leave open how large the noise is, so several settings count, each by
    its likelihood. All but ``scale``, the mean cost, is relative to it."""

    weights: BlockWeights
    settings: list[Setting]
    scale: float

    @classmethod
    def fit(
        cls, blocks: Floats, y: Floats, deviations: Floats, timed: tuple[Floats, Floats], num_kinds: int
    ) -> ChainModel:
        """From counts [N, B] with their costs [N], and ``timed`` blocks: features [T, W] and times [T]."""
        scale = float(np.abs(y).mean()) or 1.0
        weights = BlockWeights.fit(timed[0], timed[1] / scale, num_kinds)
        features, expected = _features(blocks, weights), np.zeros(blocks.shape[1] + 1)
        expected[-1] = 1.0
        left = y / scale - features @ expected
        least = float(np.mean((deviations / scale) ** 2))
        noises = sorted({max(least, share**2) for share in NOISES})
        priors = [_prior(weights, blocks.shape[1], misfit) for misfit in MISFITS]
        tried = [(_evidence(features, left, prior, noise), prior, noise) for prior, noise in product(priors, noises)]
        best = max(evidence for evidence, _, _ in tried)
        likely = [one for one in tried if one[0] > best - LEAST_LOG_WEIGHT]
        total = sum(np.exp(evidence - best) for evidence, _, _ in likely)
        return cls(weights, [
            _setting(features, left, expected, prior, noise, float(np.exp(evidence - best) / total))
            for evidence, prior, noise in likely
        ], scale)  # fmt: skip

    def predict(self, blocks: Floats, positions: Floats) -> tuple[Floats, Floats]:
        features = _features(blocks, self.weights)
        shares = np.array([setting.share for setting in self.settings])
        means = np.stack([features @ setting.mean for setting in self.settings])
        doubts = np.stack([
            np.einsum("ij,ij->i", features @ one.covariance, features) + one.noise for one in self.settings
        ])  # fmt: skip
        mean = shares @ means
        variance = shares @ (np.maximum(doubts, 0) + (means - mean) ** 2)
        return mean * self.scale, np.sqrt(variance) * self.scale


def _features(blocks: Floats, weights: BlockWeights) -> Floats:
    """[N, B + 1]: the counts, and the sum of the blocks' times."""
    return np.concatenate((blocks, blocks[:, : len(weights.mean)] @ weights.mean[:, None]), axis=1)


def _prior(weights: BlockWeights, width: int, misfit: float) -> Floats:
    """[B + 1, B + 1]: of what a block's share of a chain differs from its time, of shared values, of the intercept, and
    of the factor."""
    counted = weights.covariance + np.eye(len(weights.mean)) * (misfit * weights.typical) ** 2
    shared = np.full(width - len(weights.mean), SHARED_DEVIATION**2)
    shared[-1] = 1.0
    found: Floats = block_diag(counted, np.diag(shared), [[FACTOR_DEVIATION**2]])
    return found


def _evidence(features: Floats, left: Floats, prior: Floats, noise: float) -> float:
    """Log marginal likelihood up to a constant."""
    factor = cho_factor(features @ prior @ features.T + noise * np.eye(len(left)), lower=True)
    return float(-0.5 * left @ cho_solve(factor, left) - np.log(np.diag(factor[0])).sum())


def _setting(
    features: Floats, left: Floats, expected: Floats, prior: Floats, noise: float, share: float
) -> Setting:
    cross = prior @ features.T
    factor = cho_factor(features @ cross + noise * np.eye(len(left)), lower=True)
    mean = expected + cross @ cho_solve(factor, left)
    return Setting(mean, prior - cross @ cho_solve(factor, cross.T), noise, share)
