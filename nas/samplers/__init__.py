"""Samplers propose candidates: the table of samplers; ``optuna_sampler``, which runs them, is imported on demand."""

from nas.samplers import algorithms
from nas.samplers.base import SAMPLERS, Sampler

__all__ = ["SAMPLERS", "Sampler", "algorithms"]
