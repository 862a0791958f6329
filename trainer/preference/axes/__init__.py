"""Axes of a jury by the name that recipes write: ``correct weight=2``, ``endpoint url=http://localhost:8080/v1
model=name``.

An axis is a dataclass: its fields are its options, but for one of type ``TeacherFolder``, which it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from foundation.errors import InvalidConfig
from foundation.part_spec import parse_spec, typed_options
from foundation.registry import Registry
from trainer.preference.axes.endpoint import Endpoint
from trainer.preference.axes.likelihood import Likelihood
from trainer.preference.axes.rules import Correct, Finished, NoLoop
from trainer.preference.jury import Axis, Jury, TeacherFolder

JURY_AXES: Registry[type[Axis]] = Registry("jury axis", "jury axes")
JURY_AXES.add("correct", Correct)
JURY_AXES.add("no_loop", NoLoop)
JURY_AXES.add("finished", Finished)
JURY_AXES.add("likelihood", Likelihood)
JURY_AXES.add("endpoint", Endpoint)


@dataclass(frozen=True)
class WeightedAxis:
    """An axis as a recipe names it; ``build`` makes it once the teacher's directory is there."""

    kind: type[Axis]
    weight: float
    options: dict[str, Any]

    def build(self, teacher: Callable[[], Path]) -> Axis:
        given = {name: teacher() for name in _given(self.kind)}
        return self.kind(**self.options, **given)


def axis_of(text: str) -> WeightedAxis:
    """Raises InvalidConfig for an unknown axis, an option that it does not have, or a weight that is no number."""
    noun = JURY_AXES.noun
    spec = parse_spec(text, noun)
    kind = JURY_AXES.get_or_raise(spec.name)
    words = dict(spec.options)
    try:
        weight = float(words.pop("weight", "1"))
    except ValueError:
        raise InvalidConfig(f"{noun} {text!r}: option weight takes a number, e.g. weight=2") from None
    options = typed_options(replace(spec, options=words), kind, noun, _given(kind))
    if not _given(kind):
        kind(**options)  # what cannot work is found when the recipe is built
    return WeightedAxis(kind, weight, options)


def jury_of(texts: tuple[str, ...], teacher: Callable[[], Path]) -> Jury:
    """Raises InvalidConfig for a jury without members, or with a weight that is not over 0."""
    axes = [axis_of(text) for text in texts]
    return Jury(tuple((axis.build(teacher), axis.weight) for axis in axes))


def check_jury(texts: tuple[str, ...]) -> None:
    """Raises InvalidConfig as ``jury_of``, before there is a teacher."""
    Jury.check_weights([axis_of(text).weight for text in texts])


def _given(kind: type[Axis]) -> list[str]:
    """Fields that are not options."""
    hints = get_type_hints(kind)
    return [field.name for field in fields(kind) if hints[field.name] is TeacherFolder]  # type: ignore[arg-type]
