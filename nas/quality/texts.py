"""Texts that the ``text`` estimator can train on, by name; plugins add theirs. No torch here: names are checked when a
study is created."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from foundation.registry import Registry

if TYPE_CHECKING:
    from nas.quality.text.data import TextData

TEXTS: Registry[Callable[[], TextData]] = Registry("judging text")


@TEXTS.register("python")
def python() -> TextData:
    """The language reference and docstrings that every Python ships: there without a network."""
    from nas.quality.text.python_text import python_text

    return python_text()
