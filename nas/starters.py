"""Known architectures that a study tries before its sampler proposes anything."""

from __future__ import annotations

from contracts.study import StudySpec
from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig
from search_space.parents import parent_arch
from search_space.presets import PRESETS, preset
from search_space.space import SearchSpace

AROUND = "around"


def starters(spec: StudySpec, space: SearchSpace) -> list[tuple[str, ArchConfig]]:
    """Presets by name: those that the study names, else all that are points of its space; around a parent, the parent.

    Raises InvalidConfig for a named one that is not in the space.
    """
    named = spec.start_with
    found = []
    if named is None and spec.space == AROUND:
        parent = str(spec.space_options["parent"])
        found.append((parent, parent_arch(parent)))
    for name in PRESETS if named is None else named:
        arch = preset(name)
        if named is not None or contains(space, arch):
            space.encode(arch)
            found.append((name, arch))
    return found


def contains(space: SearchSpace, arch: ArchConfig) -> bool:
    try:
        space.encode(arch)
    except InvalidConfig:
        return False
    return True
