"""Registries: the one table of each kind of part, filled by our own modules and by plugins.

A registry lives in the package that uses its parts and is filled when that package is imported. Everything that lists
parts for people (command line, REST, dashboard, documentation, error messages) reads it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from foundation.errors import InvalidConfig

T = TypeVar("T")
REGISTRIES: dict[str, Registry[Any]] = {}  # every registry of this process by its noun


class Registry(Mapping[str, T], Generic[T]):
    """Name -> part, in the order of registration. ``noun`` names the kind of part in messages ("search space")."""

    def __init__(self, noun: str, plural: str = "") -> None:
        self.noun, self.plural = noun, plural or f"{noun}s"
        self._parts: dict[str, T] = {}
        REGISTRIES[noun] = self

    def add(self, name: str, part: T) -> T:
        """Raises InvalidConfig when the name is taken by another part; adding the same part again changes nothing."""
        taken = self._parts.get(name)
        if taken is not None and taken is not part and _origin(taken) != _origin(part):
            raise InvalidConfig(f"{self.noun} {name!r} already exists, from {_origin(taken)}; choose another name")
        self._parts[name] = part
        return part

    def register(self, name: str) -> Callable[[T], T]:
        """``add`` as a decorator for a class or a function."""
        return lambda part: self.add(name, part)

    @contextmanager
    def temporarily(self, parts: Mapping[str, T]) -> Iterator[None]:
        """Adds ``parts``, replacing those of the same name, while the block runs: for tests."""
        before = dict(self._parts)
        self._parts.update(parts)
        try:
            yield
        finally:
            self._parts.clear()
            self._parts.update(before)

    def get_or_raise(self, name: str) -> T:
        """Raises InvalidConfig naming the known parts."""
        try:
            return self._parts[name]
        except (KeyError, TypeError):
            raise InvalidConfig(f"unknown {self.noun} {name!r}; known: {self.known}") from None

    @property
    def known(self) -> str:
        """All names, for error messages and help texts."""
        return ", ".join(self._parts) or "none"

    def __getitem__(self, name: str) -> T:
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


def title_of(part: object) -> str:
    """The part's ``title`` or ``about``, else the first sentence of its docstring."""
    if title := getattr(part, "title", "") or getattr(part, "about", ""):
        return str(title)
    text = inspect.getdoc(part if callable(part) else type(part)) or ""
    return text.split("\n\n")[0].split(". ")[0].replace("\n", " ").strip().removesuffix(".")


def _origin(part: object) -> str:
    """Where a part is defined: a plugin file that is loaded twice registers the same part again."""
    kind = part if isinstance(part, type) or callable(part) else type(part)
    return f"{getattr(kind, '__module__', '')}.{getattr(kind, '__qualname__', repr(part))}"
