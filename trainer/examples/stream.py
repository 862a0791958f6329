"""Examples as rows for the loop: whole ones packed into a row, what is left of it filled with text, so that the
language is not forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundation.errors import InvalidConfig
from trainer.data.chat import Encoded, encode
from trainer.data.token_dir import TokenDir
from trainer.tasks.base import Example

STREAM = "stream.bin"


@dataclass(frozen=True)
class Draws:
    """Which example is read when: uniform among the easiest, whose share grows from ``first_share`` to all of them
    at ``until`` of the way."""

    first_share: float = 1.0
    until: float = 0.7
    seed: int = 0

    def __call__(self, order: NDArray[np.int64], done: float, draw: np.random.Generator) -> int:
        share = self.first_share + (1 - self.first_share) * min(1.0, done / self.until)
        return int(order[draw.integers(max(1, round(share * len(order))))])


@dataclass(frozen=True)
class ExampleRows:
    """Examples for a stage's rows: those of ``tasks`` (beginnings of names; all without), the easiest
    ``first_share`` first where ``ease_N2`` (success rate, log-probability) is known."""

    examples: Sequence[Example]
    tasks: tuple[str, ...] = ()
    ease_N2: NDArray[np.float64] | None = None
    first_share: float = 1.0

    def write(self, path: Path, tokens: TokenDir, num_rows: int, length: int, seed: int) -> dict[str, Any]:
        """``num_rows`` rows as a stream at ``path``; counts and shares. Raises InvalidConfig where no example fits."""
        chosen, tokenizer, end = self._chosen(), tokens.tokenizer(), tokens.vocabulary().end
        encoded = [encode(tokenizer, e.conversation, e.answer, end) for e in self.examples]
        order = chosen if self.ease_N2 is None else chosen[easiest_first(self.ease_N2[chosen])]
        draws = Draws(1.0 if self.ease_N2 is None else self.first_share, seed=seed)
        shares = write_stream(path, encoded, order, draws, num_rows, length, tokens.tokens("train"))
        return {"examples": len(chosen), **shares}

    def _chosen(self) -> NDArray[np.int64]:
        chosen = [i for i, e in enumerate(self.examples) if not self.tasks or e.task.startswith(self.tasks)]
        if not chosen:
            known = ", ".join(sorted({example.task for example in self.examples}))
            raise InvalidConfig(f"no example is of the tasks {', '.join(self.tasks)}; there are {known}")
        return np.array(chosen, np.int64)


def easiest_first(ease_N2: NDArray[np.float64]) -> NDArray[np.int64]:
    """By success rate, then by likelihood."""
    return np.lexsort((-ease_N2[:, 1], -ease_N2[:, 0]))


def write_stream(
    path: Path, encoded: Sequence[Encoded], order: NDArray[np.int64], draws: Draws, num_rows: int, length: int,
    text: NDArray[np.int32],
) -> dict[str, float]:  # fmt: skip
    """``path`` and its ``.learned``: ``num_rows`` rows of ``length`` tokens and one more token. Returns shares."""
    fitting = np.array([i for i in order if len(encoded[i].ids) <= length], np.int64)
    if not len(fitting):
        raise InvalidConfig(f"no example fits a row of {length} tokens; give longer rows")
    generator = np.random.default_rng(draws.seed)
    ids, learned = np.empty((num_rows, length), np.int32), np.zeros((num_rows, length), bool)
    of_examples = 0
    for row in range(num_rows):
        at = 0
        for example in _row(encoded, fitting, draws, row / num_rows, length, generator):
            stop = at + len(example.ids)
            ids[row, at:stop], learned[row, at:stop] = example.ids, example.learned
            at = stop
        of_examples += at
        begin = int(generator.integers(max(1, len(text) - length)))
        ids[row, at:], learned[row, at:] = text[begin : begin + length - at], True
    np.append(ids.ravel(), text[:1]).astype(np.int32).tofile(path)
    np.append(learned.ravel(), False).tofile(path.with_suffix(".learned"))
    return {"text_share": round(1 - of_examples / ids.size, 4), "answer_share": round(float(learned.mean()), 4),
            "left_out": len(order) - len(fitting)}  # fmt: skip


def _row(
    encoded: Sequence[Encoded], order: NDArray[np.int64], draws: Draws, done: float, length: int,
    generator: np.random.Generator,
) -> Iterator[Encoded]:  # fmt: skip
    """Examples until one does not fit."""
    room = length
    while True:
        example = encoded[draws(order, done, generator)]
        room -= len(example.ids)
        if room < 0:
            return
        yield example
