"""All registries in one place: loads plugins, and lists registered parts.

Our own parts are registered when the package that owns their registry is imported. ``load`` adds the parts of
installed packages and of the files that the user names.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from foundation.plugin_loader import load_plugins, use_plugin
from foundation.registry import REGISTRIES, Registry

__all__ = ["all_registries", "load", "take_plugin_options"]


def load(argv: list[str]) -> list[str]:
    """Loads every plugin; returns the arguments without ``--plugin FILE``, which may be anywhere before ``--``."""
    rest, files = take_plugin_options(argv)
    for file in files:
        use_plugin(file)
    load_plugins()
    return rest


def take_plugin_options(argv: list[str]) -> tuple[list[str], list[str]]:
    """(other arguments, files named by ``--plugin FILE`` or ``--plugin=FILE``)."""
    rest: list[str] = []
    files: list[str] = []
    arguments = iter(argv)
    for argument in arguments:
        if argument == "--":
            return [*rest, argument, *arguments], files
        if argument == "--plugin":
            files.append(next(arguments, ""))
        elif argument.startswith("--plugin="):
            files.append(argument.removeprefix("--plugin="))
        else:
            rest.append(argument)
    return rest, files


def all_registries() -> dict[str, Registry[object]]:
    """Every registry by its noun, filled by the packages that own them; those of the trainer only if torch is
    installed, which they import."""
    from device_agents.devices.kinds import DEVICE_KINDS
    from nas.export.backends import BACKENDS
    from nas.quality.contract import ESTIMATORS
    from nas.samplers import SAMPLERS
    from search_space.mixers import MIXERS
    from search_space.presets import PRESETS
    from search_space.space import SPACES
    from search_space.states import STATE_KINDS

    found: list[Registry[Any]] = [MIXERS, STATE_KINDS, SPACES, PRESETS, BACKENDS, SAMPLERS, ESTIMATORS, DEVICE_KINDS]
    if find_spec("torch"):
        from search_space.modeling.families import FAMILIES

        found += [FAMILIES, *trainer_registries()]
    return {registry.noun: registry for registry in found} | REGISTRIES


def trainer_registries() -> tuple[Registry[Any], ...]:
    from trainer.runs.terminal import silence_library_logs

    silence_library_logs()
    from trainer.data.sources import TEXT_SOURCES
    from trainer.evaluation.suites import SUITES
    from trainer.losses.preference import PREFERENCE_LOSSES
    from trainer.merging.methods import MERGE_METHODS
    from trainer.preference.axes import JURY_AXES
    from trainer.recipes import RECIPES
    from trainer.stages import STAGES
    from trainer.tasks.registry import TASKS

    return RECIPES, STAGES, TEXT_SOURCES, TASKS, SUITES, PREFERENCE_LOSSES, JURY_AXES, MERGE_METHODS
