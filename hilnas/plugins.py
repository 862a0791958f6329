"""Every registry of the product in one place: loads plugins, and lists what may be named.

Our own parts register themselves when the package that owns their registry is imported; ``OWNERS`` says which module
that is. ``load`` adds the parts of installed packages and of the files that a person names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec

from foundation.plugin_loader import load_plugins, use_plugin
from foundation.registry import REGISTRIES, Registry

__all__ = ["all_registries", "take_plugin_options", "use_plugin"]


def load(argv: list[str]) -> list[str]:
    """Loads every plugin; returns the arguments without ``--plugin FILE``, which may stand anywhere before ``--``."""
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
    """Every registry by its noun, filled; those whose packages are not installed here are left out."""
    for fill in _owners():
        fill()
    return dict(REGISTRIES)


def _owners() -> Iterator[Callable[[], object]]:
    yield _search_space
    yield _nas
    yield _device_agents
    if find_spec("torch") and find_spec("transformers"):
        yield _trainer


def _search_space() -> None:
    import search_space.mixers
    import search_space.presets
    import search_space.space  # noqa: F401


def _nas() -> None:
    import nas.export.backends
    import nas.quality.contract
    import nas.samplers  # noqa: F401


def _device_agents() -> None:
    import device_agents.devices.kinds  # noqa: F401


def _trainer() -> None:
    import trainer.recipes  # noqa: F401
