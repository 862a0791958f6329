"""Examples as JSON lines, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from foundation.errors import HilnasError
from foundation.files import write_atomically
from trainer.tasks.base import Example

EXAMPLES = "examples.jsonl"


def write_examples(path: Path, examples: Iterable[Example]) -> None:
    write_atomically(path, "".join(json.dumps(example.to_dict()) + "\n" for example in examples))


def read_examples(path: Path) -> list[Example]:
    """Raises HilnasError with the first line that is no example."""
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            found.append(Example.from_dict(json.loads(line)))
        except (ValueError, TypeError, AttributeError):
            raise HilnasError(f"{path} line {number} is no example; remove it to make it anew") from None
    return found
