"""Plugins: Python modules that register their own parts. Installed packages name a module under the entry-point group
``hilnas.plugins``; users list files in HILNAS_PLUGINS or pass ``--plugin``.

A plugin is code: it runs on the machine of the user who names it and is never taken from a request. Worker processes
inherit HILNAS_PLUGINS, so they know the same parts.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from importlib.metadata import entry_points
from pathlib import Path

from foundation.errors import InvalidConfig

GROUP = "hilnas.plugins"
VARIABLE = "HILNAS_PLUGINS"
_loaded: set[str] = set()


def use_plugin(file: str) -> None:
    """Loads a plugin file in this process and passes it on to every process that this one starts."""
    path = str(Path(file).expanduser().resolve())
    load_file(path)
    named = [one for one in os.environ.get(VARIABLE, "").split(os.pathsep) if one]
    os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys([*named, path]))


def load_plugins() -> None:
    """Loads every installed plugin and every listed file, each once per process. Raises InvalidConfig naming the one
    that fails to load."""
    for point in entry_points(group=GROUP):
        if point.value not in _loaded:
            _loaded.add(point.value)
            try:
                point.load()
            except Exception as error:  # a plugin may fail in any way; the message names it
                raise InvalidConfig(f"plugin {point.name} ({point.value}) failed to load: {_reason(error)}") from error
    for file in os.environ.get(VARIABLE, "").split(os.pathsep):
        if file:
            load_file(file)


def load_file(file: str) -> None:
    path = Path(file).expanduser().resolve()
    if str(path) in _loaded:
        return
    if path.suffix != ".py" or not path.is_file():
        raise InvalidConfig(f"no plugin at {file!r}: give the path of a Python file, e.g. --plugin my_mixer.py")
    name = f"hilnas_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look their module up by name
    _loaded.add(str(path))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        _loaded.discard(str(path))
        del sys.modules[name]
        raise InvalidConfig(f"plugin {path.name} failed to load: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, InvalidConfig) else f"{type(error).__name__}: {error}"
