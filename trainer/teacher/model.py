"""A teacher in memory, and what it says of a student's tokens.

Shapes: B windows, T teacher tokens, W entries of the teacher's vocabulary, V of the student's, K kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foundation.errors import InvalidConfig
from foundation.measurement_lock import MeasurementLock
from trainer.data.vocabulary import Vocabulary
from trainer.teacher.topk_cache import MIN_LOGPROB

MAX_BATCH_TOKENS = 4096  # read at once: their logits are kept whole


def load_teacher(folder: Path, device: torch.device | None = None, dtype: torch.dtype = torch.bfloat16) -> Any:
    """By default in bfloat16: four times as fast as float32 on a CPU that has it."""
    from transformers import AutoModelForCausalLM

    import search_space.modeling.model  # noqa: F401  registers our own architecture: winners teach too

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    return model.to(device or "cpu").eval()


@dataclass
class MappedTeacher:
    """A teacher's next-token distribution as one over the student's next piece.

    ``tokens`` is the stream in the teacher's tokens. After the last piece of a teacher token the map is exact. Inside
    one there is no answer (marked by MIN_LOGPROB): the teacher, which reads its own tokens, was never asked there.
    """

    model: Any
    vocabulary: Vocabulary
    tokens: NDArray[np.int32]
    k: int = 32
    window: int = 256
    batch: int = 8

    def __post_init__(self) -> None:
        width = int(self.model.config.vocab_size)
        known = len(self.vocabulary.num_pieces)
        if width < known:
            raise InvalidConfig(f"the teacher has {width} logits and its tokenizer {known} tokens; they do not match")
        # logits beyond the tokenizer are padding of the embedding
        self._first_pieces = torch.from_numpy(self.vocabulary.first_pieces.astype(np.int64))
        self._ends = self.vocabulary.num_pieces[self.tokens].cumsum()

    def __call__(self, start: int, stop: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Positions [start, stop) of the student's stream: log-probabilities and ids, each [stop - start, K]."""
        logprobs = np.full((stop - start, self.k), MIN_LOGPROB, np.float32)
        ids = np.tile(np.arange(self.k), (stop - start, 1))
        first = int(np.searchsorted(self._ends, start, "right"))
        last = int(np.searchsorted(self._ends, stop, "right"))
        at_once = max(1, min(self.batch, MAX_BATCH_TOKENS // self.window))
        for spans in _batches(self._windows(first, last), at_once):
            for (begin, end), (values, found) in zip(spans, self._answers(spans), strict=True):
                chosen = slice(max(begin, first) - begin, min(end, last) - begin)
                places = self._ends[begin:end][chosen] - 1 - start
                logprobs[places], ids[places] = values[chosen], found[chosen]
        return logprobs, ids

    def _windows(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Spans of one document, aligned to its beginning, that cover teacher tokens [first, last)."""
        document_ends = np.flatnonzero(self.tokens == self.vocabulary.teacher_end) + 1
        index = int(np.searchsorted(document_ends, first, "right"))
        begin = int(document_ends[index - 1]) if index else 0
        while begin < last:
            end = int(document_ends[index]) if index < len(document_ends) else len(self.tokens)
            spans = ((at, min(at + self.window, end)) for at in range(begin, end, self.window))
            yield from (span for span in spans if span[1] > first and span[0] < last)
            begin, index = end, index + 1

    @torch.no_grad()
    def _answers(self, spans: list[tuple[int, int]]) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        longest = max(end - begin for begin, end in spans)
        ids_BT = np.full((len(spans), longest), self.vocabulary.teacher_end, np.int64)
        for row, (begin, end) in enumerate(spans):
            ids_BT[row, : end - begin] = self.tokens[begin:end]  # padded at the end, which a causal model never reads
        device = next(self.model.parameters()).device
        with MeasurementLock().shared():
            logits_BTW = self.model(torch.from_numpy(ids_BT).to(device), use_cache=False).logits
            answers = [self._top(logits_BTW[row, : end - begin]) for row, (begin, end) in enumerate(spans)]
        return [(values.cpu().numpy(), found.cpu().numpy()) for values, found in answers]

    def _top(self, logits_TW: Tensor) -> tuple[Tensor, Tensor]:
        probabilities_TW = logits_TW[:, : len(self._first_pieces)].float().softmax(-1)
        student_TV = probabilities_TW.new_zeros(len(logits_TW), self.vocabulary.size)
        student_TV.index_add_(1, self._first_pieces.to(logits_TW.device), probabilities_TW)
        values_TK, ids_TK = student_TV.topk(self.k, dim=-1)
        return values_TK.log().clamp(MIN_LOGPROB, 0), ids_TK


def answered(logprobs_BTK: Tensor) -> Tensor:
    """Where the teacher said something [B, T]."""
    return logprobs_BTK.amax(-1) > MIN_LOGPROB / 2


def _batches(spans: Iterator[tuple[int, int]], size: int) -> Iterator[list[tuple[int, int]]]:
    """Of similar lengths, so that little is padding."""
    ordered = sorted(spans, key=lambda span: span[1] - span[0])
    yield from (ordered[at : at + size] for at in range(0, len(ordered), size))
