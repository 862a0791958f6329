"""Candidates: architecture records, spaces, presets and closed-form costs. Imports no torch (except
``search_space.modeling`` and each mixer's ``module.py`` / ``deploy.py``)."""

from foundation.errors import HilnasError, InvalidConfig
from search_space.arch import ArchConfig, LayerConfig, SwiGLU

__all__ = ["ArchConfig", "HilnasError", "InvalidConfig", "LayerConfig", "SwiGLU"]
