"""The one table of merging methods; the command line, records and benchmarks read it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from foundation.errors import InvalidConfig
from foundation.part_spec import parse_spec, typed_options
from foundation.registry import Registry
from trainer.merging.methods.base import Merge
from trainer.merging.methods.dare_linear import DareLinear
from trainer.merging.methods.dare_ties import DareTies
from trainer.merging.methods.della import Della
from trainer.merging.methods.della_linear import DellaLinear
from trainer.merging.methods.linear import Linear
from trainer.merging.methods.slerp import Slerp
from trainer.merging.methods.task_arithmetic import TaskArithmetic
from trainer.merging.methods.ties import Ties

MERGE_METHODS: Registry[type[Merge]] = Registry("merging method")
MERGE_METHODS.add("linear", Linear)
MERGE_METHODS.add("slerp", Slerp)
MERGE_METHODS.add("task_arithmetic", TaskArithmetic)
MERGE_METHODS.add("ties", Ties)
MERGE_METHODS.add("dare_linear", DareLinear)
MERGE_METHODS.add("dare_ties", DareTies)
MERGE_METHODS.add("della", Della)
MERGE_METHODS.add("della_linear", DellaLinear)


def method_named(name: str, **parameters: Any) -> Merge:
    """Raises InvalidConfig with the known methods, or with the parameters the method takes."""
    kind = MERGE_METHODS.get_or_raise(name)
    known = [field.name for field in fields(kind)]
    if foreign := sorted(set(parameters) - set(known)):
        raise InvalidConfig(f"{name} has no parameter {', '.join(foreign)}; it takes {', '.join(known)}")
    return kind(**parameters)


def method_of(text: str) -> Merge:
    """A method with options, as recipes write it: ``ties density=0.5 weights=0.7,0.3``."""
    spec = parse_spec(text, MERGE_METHODS.noun)
    kind = MERGE_METHODS.get_or_raise(spec.name)
    return kind(**typed_options(spec, kind, MERGE_METHODS.noun))


def name_of(method: Merge) -> str:
    return next(name for name, kind in MERGE_METHODS.items() if type(method) is kind)
