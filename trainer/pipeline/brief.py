"""What a rehearsal has: short rows, and a little text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Brief:
    """``row`` are the tokens of pretraining's rows, 2 and 4 times that of longer contexts, 4 times that of examples.
    ``text`` is a source as a data stage is given."""

    row: int
    text: str

    @property
    def examples_row(self) -> int:
        return 4 * self.row
