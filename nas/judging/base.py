"""What runs judgements: the contract of every executor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import Future
from typing import Any, ClassVar

from contracts.study import QualitySpec
from search_space.arch import ArchConfig


class Executor(ABC):
    """Runs judgements beside the coordinator; which one a study uses changes no score.

    A judgement whose worker is lost (killed, out of memory, its machine gone) runs once more, alone where it was one of
    several; its future raises WorkerLost when that worker is lost too, else what judging raised.
    """

    name: ClassVar[str]

    @classmethod
    @abstractmethod
    def require(cls) -> None:
        """Raises InvalidConfig with what this machine lacks."""

    @abstractmethod
    def submit(self, spec: QualitySpec, arch: ArchConfig) -> Future[dict[str, Any]]:
        """Returns at once. The result holds the fields of a ``QualityResult``."""

    @abstractmethod
    def close(self) -> None:
        """Judgements that did not begin are cancelled; the others are not waited for."""
