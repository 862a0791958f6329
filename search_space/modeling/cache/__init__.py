"""Decode-time state in torch: one class per kind of state, and the cache with all states of a model."""

from search_space.modeling.cache.base import CacheState, Kept, Reading
from search_space.modeling.cache.fixed import ConvState, FixedState, MatrixState
from search_space.modeling.cache.kv import KvState
from search_space.modeling.cache.whole import HilnasCache

__all__ = ["CacheState", "ConvState", "FixedState", "HilnasCache", "Kept", "KvState", "MatrixState", "Reading"]
