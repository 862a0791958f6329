"""A student's small vocabulary cut from the teacher's: special tokens, bytes and the first merges.

Byte pair encoding applies merges in rank order, so the tokens of the first merges are those of the whole list, split:
every boundary of the teacher is one of the student. What the teacher says of its next token is then exact about the
student's next piece, as the sum over all teacher tokens that begin with it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models

from foundation.errors import InvalidConfig

VOCABULARY = "vocabulary.npz"  # in a data stage's folder
DOCUMENT_END = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>")


@dataclass(frozen=True)
class Vocabulary:
    """Teacher token t is the student's ``flat[offsets[t] : offsets[t + 1]]``; ``num_bytes`` is per student token."""

    teacher_ids: NDArray[np.int32]
    flat: NDArray[np.int32]
    offsets: NDArray[np.int64]
    num_bytes: NDArray[np.int32]
    end: int
    teacher_end: int

    @property
    def size(self) -> int:
        return len(self.teacher_ids)

    @property
    def first_pieces(self) -> NDArray[np.int32]:
        return self.flat[self.offsets[:-1]]

    @property
    def num_pieces(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)

    def split(self, teacher_tokens: NDArray[np.int32]) -> NDArray[np.int32]:
        """The student's tokens of the teacher's."""
        counts = self.num_pieces[teacher_tokens]
        firsts = np.repeat(self.offsets[teacher_tokens] - np.concatenate(([0], counts.cumsum()[:-1])), counts)
        return self.flat[firsts + np.arange(counts.sum())]

    def save(self, path: Path) -> None:
        arrays: dict[str, Any] = {name: np.asarray(value) for name, value in vars(self).items()}
        np.savez(path, **arrays)

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        with path.open("rb") as file, np.load(file) as arrays:  # numpy leaves a file open whose content is cut
            return cls(
                arrays["teacher_ids"], arrays["flat"], arrays["offsets"], arrays["num_bytes"], int(arrays["end"]),
                int(arrays["teacher_end"]),
            )  # fmt: skip


def trim(teacher: Tokenizer, vocab_size: int) -> tuple[Tokenizer, Vocabulary]:
    """The student's tokenizer and how the teacher's maps to it.

    Raises InvalidConfig for a teacher whose tokenizer is no byte-level BPE, or a size that its bytes do not fit in.
    """
    described = json.loads(teacher.to_str())
    model, special = described["model"], [entry["content"] for entry in described["added_tokens"]]
    pre_tokenizer = json.dumps(described["pre_tokenizer"])
    if model["type"] != "BPE" or "ByteLevel" not in pre_tokenizer:
        raise InvalidConfig(f"the teacher's tokenizer is {model['type']}, not byte-level BPE; give a teacher with one")
    ids: dict[str, int] = {**model["vocab"], **{entry["content"]: entry["id"] for entry in described["added_tokens"]}}
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model["merges"]]
    base = sorted({*special, *(token for token in ids if len(token) == 1)}, key=ids.__getitem__)
    num_merges = vocab_size - len(base)
    if num_merges < 0 or vocab_size > len(ids):
        raise InvalidConfig(f"a vocabulary of {vocab_size} does not fit: {len(base)} (bytes) to {len(ids)} work")
    kept = sorted({*base, *("".join(merge) for merge in merges[:num_merges])}, key=ids.__getitem__)
    student_ids = {token: index for index, token in enumerate(kept)}
    student = _student(described, student_ids, merges[:num_merges])
    return student, _vocabulary(ids, student_ids, set(special), merges[:num_merges])


def _student(described: dict[str, Any], student_ids: dict[str, int], merges: list[tuple[str, ...]]) -> Tokenizer:
    model = {**described["model"], "vocab": student_ids, "merges": [list(merge) for merge in merges]}
    added = [{**entry, "id": student_ids[entry["content"]]} for entry in described["added_tokens"]]
    return Tokenizer.from_str(json.dumps({**described, "model": model, "added_tokens": added}))


def _vocabulary(
    ids: dict[str, int], student_ids: dict[str, int], special: set[str], merges: list[tuple[str, ...]]
) -> Vocabulary:
    splitter = Tokenizer(models.BPE(vocab=student_ids, merges=merges))  # type: ignore[arg-type]
    by_id = {index: token for token, index in ids.items()}
    pieces = [_pieces(by_id.get(index), splitter, student_ids) for index in range(max(by_id) + 1)]
    end = next((token for token in DOCUMENT_END if token in ids), None)
    if end is None:
        raise InvalidConfig(f"the teacher's tokenizer has none of {', '.join(DOCUMENT_END)} to end a document with")
    return Vocabulary(
        teacher_ids=np.array([ids[token] for token in student_ids], np.int32),
        flat=np.array([piece for row in pieces for piece in row], np.int32),
        offsets=np.concatenate(([0], np.cumsum([len(row) for row in pieces]))).astype(np.int64),
        num_bytes=np.array([0 if token in special else len(token) for token in student_ids], np.int32),
        end=student_ids[end], teacher_end=ids[end],
    )  # fmt: skip


def _pieces(token: str | None, splitter: Tokenizer, student_ids: dict[str, int]) -> list[int]:
    if token is None:
        return [0]  # an id that no token has, e.g. a padded embedding: never in text
    return [student_ids[token]] if token in student_ids else splitter.encode(token).ids or [0]
