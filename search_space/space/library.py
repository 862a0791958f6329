"""The table of spaces by name: files beside this module, and functions that plugins register."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from foundation.errors import InvalidConfig
from foundation.files import is_file, shown
from foundation.part_spec import parse_spec
from foundation.registry import Registry
from search_space.space.around import around
from search_space.space.core import SearchSpace
from search_space.space.data import read_data, space_from_data, space_from_file

FILES = Path(__file__).with_name("files")
SPACES: Registry[Callable[..., SearchSpace]] = Registry("search space")


class FileSpace:
    """A space from a file. Its options replace fields of the file: another ``depth``, ``d_model`` or ``vocab_size``."""

    def __init__(self, path: Path) -> None:
        self.path, self.data = path, read_data(path)
        self.title = self.data.get("about", "")

    def __call__(self, **options: Any) -> SearchSpace:
        known = ("depth", "d_model", "vocab_size")
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise InvalidConfig(
                f"{self.path.stem}: options {sorted(options)} do not fit; known options: {', '.join(known)}"
            )
        return space_from_data({**self.data, **options}, self.path.stem)


for _path in sorted(FILES.glob("*.yaml")):
    SPACES.add(_path.stem, FileSpace(_path))


SPACES.add("around", around)


def space(name: str | Mapping[str, Any], options: dict[str, Any] | None = None) -> SearchSpace:
    """A space by name, with the arguments of its function or the fields of its file that ``options`` replace; or one
    that is given as data (``options`` then replace its fields)."""
    if not isinstance(name, str):
        return space_from_data({**name, **(options or {})})
    build = SPACES.get_or_raise(name)
    if isinstance(build, FileSpace):
        return build(**(options or {}))
    parameters = inspect.signature(build).parameters
    needed = [key for key, one in parameters.items() if one.default is inspect.Parameter.empty]
    missing = [key for key in needed if key not in (options or {})]
    if missing and not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
        raise InvalidConfig(f"{name} needs the option {missing[0]!r}, e.g. space_options {{{missing[0]!r}: ...}}")
    try:
        inspect.signature(build).bind(**(options or {}))
    except TypeError:
        known = ", ".join(parameters) or "none"
        raise InvalidConfig(f"{name}: options {sorted(options or {})} do not fit; known options: {known}") from None
    return build(**(options or {}))


def space_of(text: str) -> SearchSpace:
    """A space as a command line names it: ``named`` with options, or a YAML or JSON file given by its path."""
    if is_file(text) and text not in SPACES:
        return space_from_file(Path(text))
    if text.lstrip()[:1] in ("{", "["):
        raise InvalidConfig("that is JSON itself: write it to a file and give the file's path, or name a search space")
    if text.split()[:1] and text.split()[0] not in SPACES:
        raise InvalidConfig(f"{shown(text)!r} is neither a search space ({SPACES.known}) nor a file")
    return space(*named(text))


def named(text: str) -> tuple[str, dict[str, Any]]:
    """``around parent=smollm2 windows=256,512`` as a name and its options; where a list is wanted, one value is one of
    its kind."""
    spec = parse_spec(text, "search space")
    build = SPACES.get_or_raise(spec.name)
    defaults = {} if isinstance(build, FileSpace) else inspect.signature(build).parameters
    options: dict[str, Any] = {}
    for key, value in spec.options.items():
        listed = [_scalar(part) for part in value.split(",")]
        wants_list = key in defaults and isinstance(defaults[key].default, tuple)
        options[key] = listed if wants_list or len(listed) > 1 else listed[0]
    return spec.name, options


def _scalar(text: str) -> Any:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text
