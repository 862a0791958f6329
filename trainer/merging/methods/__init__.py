"""The one table of merging methods; the command line, records and benchmarks read it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from foundation.errors import InvalidConfig
from trainer.merging.methods.base import Merge
from trainer.merging.methods.dare_linear import DareLinear
from trainer.merging.methods.dare_ties import DareTies
from trainer.merging.methods.della import Della
from trainer.merging.methods.della_linear import DellaLinear
from trainer.merging.methods.linear import Linear
from trainer.merging.methods.slerp import Slerp
from trainer.merging.methods.task_arithmetic import TaskArithmetic
from trainer.merging.methods.ties import Ties

METHODS: dict[str, type[Merge]] = {
    "linear": Linear,
    "slerp": Slerp,
    "task_arithmetic": TaskArithmetic,
    "ties": Ties,
    "dare_linear": DareLinear,
    "dare_ties": DareTies,
    "della": Della,
    "della_linear": DellaLinear,
}


def method_named(name: str, **parameters: Any) -> Merge:
    """Raises InvalidConfig with the known methods, or with the parameters the method takes."""
    if name not in METHODS:
        raise InvalidConfig(f"unknown merging method {name!r}; known: {', '.join(METHODS)}")
    known = [field.name for field in fields(METHODS[name])]
    if foreign := sorted(set(parameters) - set(known)):
        raise InvalidConfig(f"{name} has no parameter {', '.join(foreign)}; it takes {', '.join(known)}")
    return METHODS[name](**parameters)


def name_of(method: Merge) -> str:
    return next(name for name, kind in METHODS.items() if type(method) is kind)
