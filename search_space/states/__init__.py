"""The kinds of decode-time state: one file per kind, one line in this module."""

from search_space.states.base import STATE_KINDS, StateSpec, state_from_plan
from search_space.states.conv import ConvSpec
from search_space.states.kv import KvSpec
from search_space.states.matrix import MatrixSpec

__all__ = ["STATE_KINDS", "ConvSpec", "KvSpec", "MatrixSpec", "StateSpec", "state_from_plan"]
