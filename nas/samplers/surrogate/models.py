"""Models of metrics: an additive one for costs, a Gaussian process for quality. Both predict a mean and a deviation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular

from nas.samplers.surrogate.structure import Floats

PRIOR_SHARES = (1e-8, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # variance of the noise over that of the weights, tried in turn
MAX_ROWS = 256  # of a Gaussian process: an ask must stay below 300 ms
OFFSET_SHARE = 0.3  # of the median distance from the best: below it, losses count about as they are
MAX_LOG = 300.0
GRID_ROWS = 96  # on which its settings are chosen


class Model(Protocol):
    def predict(self, blocks: Floats, positions: Floats) -> tuple[Floats, Floats]:
        """Mean and deviation [N] of candidates given as counts of blocks [N, B] and positions [N, C]."""
        ...


@dataclass(frozen=True)
class AdditiveModel:
    """``y = blocks @ weights + residual``: Bayesian linear regression, the noise chosen by marginal likelihood. The
    deviation of a prediction holds the doubt in the weights, the residual of the fit and the noise of the rows."""

    weights: Floats
    covariance: Floats
    noise: float
    scale: float
    centre: float

    @classmethod
    def fit(cls, blocks: Floats, y: Floats, deviations: Floats | None = None) -> AdditiveModel:
        """``deviations`` [N] are those of the measured values themselves; a row counts by what it knows."""
        centre, scale = float(y.mean()), float(y.std()) or abs(float(y.mean())) or 1.0
        target = (y - centre) / scale
        own = np.zeros(len(y)) if deviations is None else deviations / scale
        shrink = 1.0 / np.sqrt(1.0 + (own / max(float(np.median(own)), 1e-12)) ** 2) if own.any() else np.ones(len(y))
        x, t = blocks * shrink[:, None], target * shrink
        values, vectors = np.linalg.eigh(x.T @ x)
        rotated = vectors.T @ (x.T @ t)
        best = max((_evidence(values, rotated, t, share) for share in PRIOR_SHARES), key=lambda found: found[0])
        _, share, noise = best
        covariance = (vectors / (values + share)) @ vectors.T
        floor = float(np.mean(own**2))
        return cls(covariance @ (x.T @ t), noise * covariance, max(noise, floor), scale, centre)

    def predict(self, blocks: Floats, positions: Floats) -> tuple[Floats, Floats]:
        mean = blocks @ self.weights
        doubt = np.einsum("ij,ij->i", blocks @ self.covariance, blocks)
        return mean * self.scale + self.centre, np.sqrt(np.maximum(doubt, 0) + self.noise) * self.scale


def _evidence(values: Floats, rotated: Floats, t: Floats, share: float) -> tuple[float, float, float]:
    """Log marginal likelihood up to a constant with the best noise for this share, the share, and that noise."""
    values = np.maximum(values, 0)
    fit = float(t @ t - np.sum(rotated**2 / (values + share)))
    noise = max(fit / max(1, len(t)), 1e-10)
    return -0.5 * (len(t) * np.log(noise) + float(np.sum(np.log1p(values / share)))), share, noise


@dataclass(frozen=True)
class GaussianProcess:
    """A linear trend in the blocks, and a smooth part that knows positions: candidates are alike when they have the
    same blocks at the same places. Lengths and noise by marginal likelihood over a small grid."""

    positions: Floats
    blocks: Floats
    factor: Floats
    alpha: Floats
    trend: AdditiveModel
    lengths: tuple[float, float]
    spread: float
    noise: float

    @classmethod
    def fit(cls, blocks: Floats, positions: Floats, y: Floats, deviations: Floats | None = None) -> GaussianProcess:
        trend = AdditiveModel.fit(blocks, y, deviations)
        left = y - trend.predict(blocks, positions)[0]
        spread = float(left.std()) or float(y.std()) or 1.0
        own = 0.0 if deviations is None else float(np.mean(deviations**2)) / spread**2
        picked = slice(None, None, max(1, len(y) // GRID_ROWS))
        alike = _likeness(positions[picked], blocks[picked], positions[picked], blocks[picked])
        lengths, noise = _best_settings(alike, left[picked] / spread, own)
        kernel = _kernel(_likeness(positions, blocks, positions, blocks), lengths) + noise * np.eye(len(y))
        factor: Floats = cholesky(kernel, lower=True, check_finite=False)
        alpha = cho_solve((factor, True), left / spread)
        return cls(positions, blocks, factor, alpha, trend, lengths, spread, noise)

    def predict(self, blocks: Floats, positions: Floats) -> tuple[Floats, Floats]:
        cross = _kernel(_likeness(positions, blocks, self.positions, self.blocks), self.lengths)
        mean, _ = self.trend.predict(blocks, positions)
        solved = solve_triangular(self.factor, cross.T, lower=True, check_finite=False)
        own = np.maximum(1.0 - np.einsum("ij,ij->j", solved, solved), 1e-9)
        doubt = np.einsum("ij,ij->i", blocks @ self.trend.covariance, blocks) * self.trend.scale**2
        return mean + cross @ self.alpha * self.spread, np.sqrt(own * self.spread**2 + np.maximum(doubt, 0))


Likeness = tuple[NDArray[np.float64], NDArray[np.float64]]


def _likeness(positions: Floats, blocks: Floats, others: Floats, other_blocks: Floats) -> Likeness:
    """[N, M] shares of parameters that differ, and squared distances of block counts per layer."""
    parameters = np.maximum(positions.sum(1)[:, None], others.sum(1)[None])
    differ = 1.0 - positions @ others.T / np.maximum(parameters, 1)
    square = (blocks**2).sum(1)[:, None] + (other_blocks**2).sum(1)[None] - 2 * blocks @ other_blocks.T
    return differ, np.maximum(square, 0) / max(float(parameters.max(initial=1)), 1) ** 2


def _kernel(alike: Likeness, lengths: tuple[float, float]) -> Floats:
    return np.exp(-alike[0] / lengths[0] - alike[1] / lengths[1])


def _best_settings(alike: Likeness, y: Floats, own: float) -> tuple[tuple[float, float], float]:
    found = []
    for lengths in ((0.2, 0.05), (0.2, 0.5), (0.6, 0.05), (0.6, 0.5), (2.0, 0.5)):
        kernel = _kernel(alike, lengths)
        for noise in (0.01, 0.1, 0.4, 1.0):
            total = max(noise, own)
            factor, _ = cho_factor(kernel + total * np.eye(len(y)), lower=True, check_finite=False)
            fit = float(y @ cho_solve((factor, True), y, check_finite=False))
            found.append((-0.5 * fit - float(np.log(np.diag(factor)).sum()), lengths, total))
    _, lengths, noise = max(found, key=lambda one: one[0])
    return lengths, noise


@dataclass(frozen=True)
class WarpedProcess:
    """A Gaussian process of the logarithm of how far a loss lies above the best one: a few bad candidates are so far
    off that a process of the losses themselves cannot tell good ones apart. ``sign`` is -1 where more is better."""

    process: GaussianProcess
    sign: float
    best: float
    offset: float

    @classmethod
    def fit(cls, blocks: Floats, positions: Floats, y: Floats, deviations: Floats, sign: float) -> WarpedProcess:
        losses = sign * y
        best = float(losses.min())
        offset = OFFSET_SHARE * float(np.median(losses - best)) or abs(best) or 1.0
        above = losses - best + offset
        return cls(GaussianProcess.fit(blocks, positions, np.log(above), deviations / above), sign, best, offset)

    def predict(self, blocks: Floats, positions: Floats) -> tuple[Floats, Floats]:
        """The median, and the deviation to first order."""
        mean, deviation = self.process.predict(blocks, positions)
        above = np.exp(np.minimum(mean, MAX_LOG))
        return self.sign * (above + self.best - self.offset), above * deviation
