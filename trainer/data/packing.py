"""Rows of a token stream for training: documents follow each other and are numbered, so that none sees another.

Shapes: B rows, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foundation.errors import InvalidConfig

IGNORE = -100  # label of a position that is not counted, as in torch and transformers


@dataclass(frozen=True)
class Rows:
    """``labels_BT`` is the next token of the same document, or IGNORE; ``positions_BT`` start anew with a document."""

    ids_BT: Tensor
    labels_BT: Tensor
    segments_BT: Tensor
    positions_BT: Tensor
    starts: tuple[int, ...]  # where each row begins in the stream


class PackedStream:
    """Row r is tokens [r T, (r + 1) T) of a stream of documents that each end with ``end``. A document cut by the end
    of a row goes on in the next one as if it began there. ``learned`` says of each token whether it is a label;
    without it all are."""

    def __init__(
        self, tokens: NDArray[np.int32], length: int, end: int, learned: NDArray[np.bool_] | None = None
    ) -> None:
        self.tokens, self.length, self.end, self.learned = tokens, length, end, learned
        self.num_rows = (len(tokens) - 1) // length
        if self.num_rows < 1:
            raise InvalidConfig(f"{len(tokens)} tokens of text make no row of {length}; give more text or shorter rows")

    @classmethod
    def open(cls, path: Path, length: int, end: int) -> PackedStream:
        """``path`` holds int32 tokens; beside it, as ``.learned``, may lie a byte for each."""
        marks = path.with_suffix(".learned")
        learned = np.memmap(marks, np.bool_, "r") if marks.exists() else None
        return cls(np.memmap(path, np.int32, "r"), length, end, learned)

    def rows(self, indices: NDArray[np.int64]) -> Rows:
        starts = indices * self.length
        window = np.stack([self.tokens[start : start + self.length + 1] for start in starts]).astype(np.int64)
        ids, following = window[:, :-1], window[:, 1:]
        segments = np.cumsum(ids == self.end, axis=1) - (ids == self.end)
        labels = np.where(ids == self.end, IGNORE, following)
        if self.learned is not None:
            marks = np.stack([self.learned[start + 1 : start + self.length + 1] for start in starts])
            labels = np.where(marks, labels, IGNORE)
        ids_BT, labels_BT, segments_BT, positions_BT = (
            torch.from_numpy(np.ascontiguousarray(value)) for value in (ids, labels, segments, _within(segments))
        )
        return Rows(ids_BT, labels_BT, segments_BT, positions_BT, tuple(int(start) for start in starts))


def _within(segments: NDArray[np.int64]) -> NDArray[np.int64]:
    """How far each token is from the first of its segment."""
    index = np.broadcast_to(np.arange(segments.shape[1]), segments.shape)
    begins = np.diff(segments, axis=1, prepend=-1) != 0
    return index - np.maximum.accumulate(np.where(begins, index, 0), axis=1)


def order(num_rows: int, first: int, count: int, seed: int) -> NDArray[np.int64]:
    """Rows ``first`` to ``first + count`` of the endless sequence of shuffled epochs: a function of these numbers
    alone, so that a resumed run reads what it would have read."""
    wanted = np.arange(first, first + count)
    epochs = {int(epoch): np.random.default_rng((seed, int(epoch))).permutation(num_rows)
              for epoch in np.unique(wanted // num_rows)}  # fmt: skip
    return np.array([epochs[int(i // num_rows)][i % num_rows] for i in wanted], np.int64)
