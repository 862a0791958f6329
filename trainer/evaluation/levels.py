"""Suite ``levels:DATASET``: success on a data set of reasoning-gym at each level of its curriculum."""

from __future__ import annotations

import re
from collections.abc import Iterator

from foundation.errors import InvalidConfig
from trainer.evaluation.subject import Subject
from trainer.evaluation.task_scores import scored
from trainer.evaluation.values import Metric
from trainer.tasks.registry import task_named

LAST = 3  # level 0 is ours and easy, 1 the curriculum's first


def levels(subject: Subject, argument: str) -> Iterator[Metric]:
    """``count`` test examples at each level, as ``levels/gcd@0`` and so on."""
    dataset, last = levels_of(argument)
    for level in range(last + 1):
        yield scored(subject, f"levels/{dataset}@{level}", task_named(f"reasoning:{dataset}@{level}"))


def levels_of(argument: str) -> tuple[str, int]:
    """``gcd`` -> the data set and level 3, or its hardest where that comes before; ``gcd-5`` goes to level 5.

    Raises InvalidConfig where there is no such data set or level.
    """
    found = re.fullmatch(r"(\w+)(?:-(\d+))?", argument)
    if found is None:
        raise InvalidConfig(f"levels:{argument} names no data set; levels:gcd works, levels:gcd-5 up to level 5")
    dataset, asked = found[1], found[2]
    hardest = hardest_of(dataset)
    if asked and int(asked) > hardest:
        raise InvalidConfig(f"reasoning-gym's {dataset} has levels 0 to {hardest}, not {asked}")
    return dataset, int(asked) if asked else min(LAST, hardest)


def hardest_of(dataset: str) -> int:
    """The level that raises the last attribute of the curriculum; beyond it examples would stay the same."""
    import reasoning_gym

    task_named(f"reasoning:{dataset}").examples("test", 1)  # answers an unknown name
    if not reasoning_gym.factory.has_curriculum(dataset):
        return 0
    course = reasoning_gym.factory.create_curriculum(dataset)
    steps = [len(one.levels) - 1 - course.get_attr_level(name) for name, one in course.attributes.items()]
    return 1 + max(steps, default=0)
