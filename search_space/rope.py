"""Rotary positions as plain data: the base, and two stretches of it to longer contexts: YaRN's (Peng et al. 2023) and
Llama 3's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

from foundation.errors import InvalidConfig
from foundation.typed_fields import build, check_types

T = TypeVar("T")


@dataclass(frozen=True)
class Yarn:
    """Positions up to ``factor * original_length``, the latter being what the model was trained on.

    Dimensions that turn more than ``beta_fast`` times in the original length keep their frequency, those that turn
    less than ``beta_slow`` times are slowed by ``factor``, between them it is blended.
    """

    factor: float
    original_length: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0

    def __post_init__(self) -> None:
        check_types("yarn", self)
        if self.factor < 1 or self.original_length < 1:
            raise InvalidConfig(f"yarn: factor {self.factor} and original_length {self.original_length} must be >= 1")
        if not 0 < self.beta_slow < self.beta_fast:
            raise InvalidConfig(f"yarn: give 0 < beta_slow < beta_fast, got {self.beta_slow} and {self.beta_fast}")

    @property
    def attention_factor(self) -> float:
        """The factor for queries and keys: attention sharpens as the context grows."""
        return 0.1 * math.log(self.factor) + 1.0

    def blend_range(self, head_dim: int, theta: float) -> tuple[int, int]:
        """First and last frequency index that is blended."""
        low = math.floor(self._dimension(self.beta_fast, head_dim, theta))
        high = math.ceil(self._dimension(self.beta_slow, head_dim, theta))
        return max(low, 0), min(high, head_dim - 1)

    def _dimension(self, turns: float, head_dim: int, theta: float) -> float:
        return head_dim * math.log(self.original_length / (turns * 2 * math.pi)) / (2 * math.log(theta))


@dataclass(frozen=True)
class Llama3Scaling:
    """Llama 3.1's: frequencies that turn fewer than ``low_freq_factor`` times in the original length are slowed by
    ``factor``, those that turn more than ``high_freq_factor`` times stay, between them it is blended."""

    factor: float
    original_length: int
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0

    def __post_init__(self) -> None:
        check_types("llama3", self)
        if self.factor < 1 or self.original_length < 1:
            raise InvalidConfig(f"llama3: factor {self.factor} and original_length {self.original_length} must be >= 1")
        if not 0 < self.low_freq_factor < self.high_freq_factor:
            raise InvalidConfig(
                "llama3: give 0 < low_freq_factor < high_freq_factor, got"
                f" {self.low_freq_factor} and {self.high_freq_factor}"
            )


@dataclass(frozen=True)
class Rope:
    theta: float
    yarn: Yarn | None = None
    llama3: Llama3Scaling | None = None

    @property
    def attention_factor(self) -> float:
        return self.yarn.attention_factor if self.yarn else 1.0


def yarn_from(data: Any) -> Yarn | None:
    """Raises InvalidConfig for anything other than None or the fields of ``Yarn``."""
    return _from(Yarn, "yarn", data)


def llama3_from(data: Any) -> Llama3Scaling | None:
    """Raises InvalidConfig for anything other than None or the fields of ``Llama3Scaling``."""
    return _from(Llama3Scaling, "llama3", data)


def _from(kind: type[T], name: str, data: Any) -> T | None:
    if data is None or isinstance(data, kind):
        return data
    return build(kind, f"architecture: {name}", data)
