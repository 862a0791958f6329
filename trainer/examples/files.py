"""Examples as JSON lines, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from foundation.errors import HilnasError
from foundation.files import write_atomically
from trainer.pipeline.stage import StageDir
from trainer.tasks.base import Example

EXAMPLES = "examples.jsonl"


@dataclass(frozen=True)
class ExamplesDir(StageDir):
    what: ClassVar[str] = "examples"
    required: ClassVar[tuple[str, ...]] = (EXAMPLES,)

    def read(self) -> list[Example]:
        """Raises HilnasError with the first line that is not an example."""
        return read_examples(self.folder / EXAMPLES)

    def write(self, examples: Iterable[Example]) -> None:
        write_examples(self.folder / EXAMPLES, examples)


def write_examples(path: Path, examples: Iterable[Example]) -> None:
    write_atomically(path, "".join(json.dumps(example.to_dict()) + "\n" for example in examples))


def read_examples(path: Path) -> list[Example]:
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            found.append(Example.from_dict(json.loads(line)))
        except (ValueError, TypeError, AttributeError):
            raise HilnasError(f"{path} line {number} is not an example; remove it to make it anew") from None
    return found
