"""Stage ``data``: documents to the streams that teacher and student read, with tokenizer, vocabulary map and card."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from foundation.errors import HilnasError, InvalidConfig
from trainer.data.corpus import SPLITS, build_corpus, write_card
from trainer.data.sources import open_source
from trainer.data.vocabulary import DOCUMENT_END, VOCABULARY, Vocabulary, trim
from trainer.pipeline.chain import finished
from trainer.pipeline.stage import Stage, StageContext
from trainer.teacher.model import teacher_directory


@dataclass(frozen=True)
class DataStage(Stage):
    """``max_tokens`` counts the teacher's tokens, ``teacher_identity`` says which teacher by content."""

    kind: ClassVar[str] = "data"
    teacher: str
    teacher_identity: str
    sources: tuple[str, ...]
    vocab_size: int
    max_tokens: int
    held_out_share: float = 0.05

    def run(self, context: StageContext) -> dict[str, Any]:
        sources = [open_source(spec, context.cache) for spec in self.sources]
        context.progress(0.2, "sources at hand")
        path = teacher_directory(self.teacher, context.cache) / "tokenizer.json"
        if not path.exists():
            raise InvalidConfig(f"teacher {self.teacher} has no tokenizer.json; save its tokenizer as a fast one")
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers has no class for it
            raise InvalidConfig(f"{path} is no tokenizer ({error}); save the teacher's again") from error
        student, vocabulary = trim(tokenizer, self.vocab_size)
        streams, counts = build_corpus(sources, tokenizer, vocabulary, self.max_tokens, self.held_out_share)
        metrics: dict[str, Any] = {"vocab_size": vocabulary.size, **self._write(context.folder, streams, vocabulary)}
        metrics["sha256"] = {path.name: _sum(path) for path in sorted(context.folder.glob("*.bin"))}
        save_tokenizer(student, context.folder / "tokenizer")
        vocabulary.save(context.folder / VOCABULARY)
        write_card(context.folder, counts, {k: v for k, v in metrics.items() if not isinstance(v, dict)})
        return metrics

    def _write(
        self, folder: Path, streams: dict[str, NDArray[np.int32]], vocabulary: Vocabulary
    ) -> dict[str, float | int]:
        facts: dict[str, float | int] = {}
        for split, tokens in streams.items():
            pieces = vocabulary.split(tokens)
            tokens.tofile(folder / f"{split}.teacher.bin")
            pieces.tofile(folder / f"{split}.bin")
            facts[f"{split}_teacher_tokens"], facts[f"{split}_tokens"] = len(tokens), len(pieces)
            facts[f"{split}_bytes"] = int(vocabulary.num_bytes[pieces].sum())
        facts["pieces_per_teacher_token"] = round(facts["train_tokens"] / facts["train_teacher_tokens"], 4)
        return facts

    def check(self, folder: Path) -> None:
        sums = (finished(folder) or {})["metrics"]["sha256"]
        for name in (f"{split}{kind}.bin" for split in SPLITS for kind in ("", ".teacher")):
            path = folder / name
            if not path.exists() or _sum(path) != sums[name]:
                raise HilnasError(f"{path} is missing or not what was written")


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """As transformers' AutoTokenizer loads it."""
    from transformers import PreTrainedTokenizerFast

    end = next(token for token in DOCUMENT_END if tokenizer.token_to_id(token) is not None)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end, pad_token=end)
    wrapped.save_pretrained(folder)


def _sum(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
