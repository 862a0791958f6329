"""Axes by the name that recipes write: ``correct weight=2``, ``endpoint url=http://localhost:8080/v1 model=name``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from foundation.errors import InvalidConfig
from trainer.preference.axes.endpoint import Endpoint
from trainer.preference.axes.likelihood import Likelihood
from trainer.preference.axes.rules import Correct, Finished, NoLoop
from trainer.preference.jury import Axis, Jury

# name -> an axis from its options and the teacher's directory
AXES: dict[str, Callable[[dict[str, str], Callable[[], Path]], Axis]] = {
    "correct": lambda options, teacher: Correct(),
    "no_loop": lambda options, teacher: NoLoop(),
    "finished": lambda options, teacher: Finished(),
    "likelihood": lambda options, teacher: Likelihood(teacher()),
    "endpoint": lambda options, teacher: Endpoint(**options),
}


@dataclass(frozen=True)
class Named:
    """An axis as a config names it."""

    name: str
    weight: float
    options: dict[str, str]


def axis_named(text: str) -> Named:
    """Raises InvalidConfig for an unknown axis or an option that is none."""
    name, *words = text.split() or [""]
    options = dict(word.split("=", 1) for word in words if "=" in word)
    if name not in AXES or len(options) != len(words):
        raise InvalidConfig(f"{text!r} names no axis of a jury; known: {', '.join(AXES)}, then options like weight=2")
    try:
        weight = float(options.pop("weight", "1"))
    except ValueError:
        raise InvalidConfig(f"{text!r}: weight wants a number, e.g. weight=2") from None
    if name != "endpoint" and options:
        raise InvalidConfig(f"{text!r}: axis {name} has no option {', '.join(options)}")
    return Named(name, weight, options)


def jury_of(texts: tuple[str, ...], teacher: Callable[[], Path]) -> Jury:
    named = [axis_named(text) for text in texts]
    return Jury(tuple((AXES[axis.name](axis.options, teacher), axis.weight) for axis in named))
