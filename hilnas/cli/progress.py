"""What a long command does, while it does it: one line that changes on a terminal, plain lines elsewhere.

Both go to standard error, as standard output is for results. What libraries write there meanwhile, those of worker
processes included, goes to a log file: torch and its exporter print dozens of lines that say nothing to a user.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from rich.console import Console

from search_space.parents import parents_folder

Say = Callable[[str], None]
LOG = "library.log"  # in the folder of a block library, or beside everything else that is kept
_open_logs: list[IO[Any]] = []  # handlers that libraries made keep writing to theirs


@contextmanager
def working(log: Path) -> Iterator[Say]:
    """Yields what shows a sentence; until the end of the block, whatever else is written to standard error is appended
    to ``log``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    kept = log.open("a", buffering=1, encoding="utf-8", errors="replace")
    _open_logs.append(kept)
    before, screen = sys.stderr, os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="replace")
    os.dup2(kept.fileno(), 2)  # worker processes inherit it
    sys.stderr = kept
    try:
        with _shown_on(screen) as say:
            yield say
    finally:
        sys.stderr = before
        os.dup2(screen.fileno(), 2)
        screen.close()


@contextmanager
def _shown_on(screen: IO[str]) -> Iterator[Say]:
    console = Console(file=screen)
    if console.is_terminal:
        with console.status("") as status:
            yield lambda text: status.update(text)
    else:
        yield lambda text: print(text, file=screen, flush=True)


def kept_folder() -> Path:
    """Where everything is kept: HILNAS_VAR, by default ``var``."""
    return parents_folder().parent


def compiling(say: Say) -> Callable[[int, int, float | None], None]:
    """For ``BlockLibrary.ensure``: ``compiling block 5 of 12, about 40 s left``."""

    def told(number: int, total: int, seconds_left: float | None) -> None:
        left = "" if seconds_left is None else f", about {duration(seconds_left)} left"
        say(f"compiling block {number} of {total}{left}")

    return told


def duration(seconds: float) -> str:
    """``40 s``, ``5 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
