"""What a data stage leaves: token streams by split, the tokenizer that made them, and the vocabulary map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from trainer.data.packing import PackedStream
from trainer.data.vocabulary import DOCUMENT_END, VOCABULARY, Vocabulary
from trainer.pipeline.stage import StageDir

TOKENIZER = "tokenizer"


@dataclass(frozen=True)
class TokenDir(StageDir):
    """Streams are int32, documents one after the other. ``teacher_tokens`` are the same text in the teacher's tokens,
    where there is a teacher."""

    what: ClassVar[str] = "tokens"
    required: ClassVar[tuple[str, ...]] = ("train.bin", "held_out.bin", VOCABULARY, f"{TOKENIZER}/tokenizer.json")

    def path(self, split: str) -> Path:
        return self.folder / f"{split}.bin"

    def teacher_path(self, split: str) -> Path:
        return self.folder / f"{split}.teacher.bin"

    def tokens(self, split: str) -> NDArray[np.int32]:
        """Mapped into memory, not read."""
        return np.memmap(self.path(split), np.int32, "r")

    def teacher_tokens(self, split: str) -> NDArray[np.int32]:
        return np.fromfile(self.teacher_path(split), np.int32)

    def packed(self, split: str, length: int) -> PackedStream:
        """Raises InvalidConfig for a text that makes no row of ``length``."""
        return PackedStream.open(self.path(split), length, self.vocabulary().end)

    def vocabulary(self) -> Vocabulary:
        return Vocabulary.load(self.folder / VOCABULARY)

    def tokenizer(self) -> Tokenizer:
        return Tokenizer.from_file(str(self.folder / TOKENIZER / "tokenizer.json"))

    def save(self, tokenizer: Tokenizer, vocabulary: Vocabulary) -> None:
        save_tokenizer(tokenizer, self.folder / TOKENIZER)
        vocabulary.save(self.folder / VOCABULARY)

    def copy_tokenizer(self, model: Path) -> None:
        """Beside the weights in a Hugging Face directory."""
        for file in (self.folder / TOKENIZER).iterdir():
            (model / file.name).write_bytes(file.read_bytes())


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """As transformers' AutoTokenizer loads it."""
    from transformers import PreTrainedTokenizerFast

    end = next(token for token in DOCUMENT_END if tokenizer.token_to_id(token) is not None)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end, pad_token=end)
    wrapped.save_pretrained(folder)
