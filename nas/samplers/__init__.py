"""What proposes candidates: the table of samplers, and Optuna behind it (``optuna_sampler``, imported by who asks)."""

from nas.samplers import algorithms
from nas.samplers.base import SAMPLERS, Sampler

__all__ = ["SAMPLERS", "Sampler", "algorithms"]
