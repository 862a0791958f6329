"""What a candidate is: architecture records, spaces, presets and closed-form costs. Imports no torch
(except ``search_space.modeling`` and each mixer's ``module.py`` / ``deploy.py``)."""

from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.errors import HilnasError, InvalidConfig

__all__ = ["ArchConfig", "HilnasError", "InvalidConfig", "LayerConfig", "SwiGLU"]
