"""Stage ``data``: documents to the streams that teacher and student read, with tokenizer, vocabulary map and card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from foundation.errors import HilnasError, InvalidConfig
from foundation.files import file_digest
from trainer.data.corpus import SPLITS, build_corpus, write_card
from trainer.data.sources import Source, open_source
from trainer.data.token_dir import TokenDir
from trainer.data.vocabulary import Vocabulary, trim
from trainer.pipeline.brief import Brief
from trainer.pipeline.chain import finished
from trainer.pipeline.costing import Cost
from trainer.pipeline.stage import STAGES, Stage, StageContext, StageDir
from trainer.teacher.directory import teacher_directory

REHEARSED_TOKENS, REHEARSED_SHARE = 20_000, 0.2


@STAGES.register("data")
@dataclass(frozen=True)
class DataStage(Stage):
    """``max_tokens`` counts the teacher's tokens, ``teacher_identity`` says which teacher by content."""

    kind: ClassVar[str] = "data"
    title: ClassVar[str] = "documents to token streams in a vocabulary cut from the teacher's"
    output: ClassVar[type[StageDir]] = TokenDir
    teacher: str
    teacher_identity: str
    sources: tuple[str, ...]
    vocab_size: int
    max_tokens: int
    held_out_share: float = 0.05

    def run(self, context: StageContext) -> dict[str, Any]:
        sources = [open_source(spec, context.cache) for spec in self.sources]
        context.progress(0.2, "sources at hand")
        tokenizer = self._teachers_tokenizer(context.cache)
        student, vocabulary = trim(tokenizer, self.vocab_size)
        return write_corpus(context, sources, tokenizer, student, vocabulary, self.max_tokens, self.held_out_share)

    def _teachers_tokenizer(self, cache: Path) -> Tokenizer:
        path = teacher_directory(self.teacher, cache) / "tokenizer.json"
        if not path.exists():
            raise InvalidConfig(f"teacher {self.teacher} has no tokenizer.json; save its tokenizer as a fast one")
        try:
            return Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers has no class for it
            raise InvalidConfig(f"{path} is not a tokenizer ({error}); save the teacher's again") from error

    def cost(self, costing: object) -> Cost:
        return corpus_cost(self.max_tokens)

    def shortened(self, brief: Brief) -> DataStage:
        return replace(self, sources=(brief.text,), max_tokens=REHEARSED_TOKENS, held_out_share=REHEARSED_SHARE)

    def check(self, folder: Path) -> None:
        super().check(folder)
        check_streams(folder)


def write_corpus(
    context: StageContext, sources: Sequence[Source], tokenizer: Tokenizer, student: Tokenizer, vocabulary: Vocabulary,
    max_tokens: int, held_out_share: float,
) -> dict[str, Any]:  # fmt: skip
    """A TokenDir with its card: text in ``tokenizer``'s tokens, and as ``vocabulary`` maps them to ``student``'s."""
    streams, counts = build_corpus(sources, tokenizer, vocabulary, max_tokens, held_out_share)
    metrics = write_streams(context.folder, streams, vocabulary)
    TokenDir(context.folder).save(student, vocabulary)
    write_card(context.folder, counts, {k: v for k, v in metrics.items() if not isinstance(v, dict)})
    return metrics


def corpus_cost(max_tokens: int) -> Cost:
    """Both streams, and their parts before they are joined."""
    return {"text_tokens": max_tokens, "host_memory_bytes": 4 * 4 * max_tokens, "disk_bytes": 2 * 4 * max_tokens}


def write_streams(folder: Path, streams: dict[str, NDArray[np.int32]], vocabulary: Vocabulary) -> dict[str, Any]:
    """Both streams of every split; sizes and sha256 sums."""
    made = TokenDir(folder)
    facts: dict[str, Any] = {"vocab_size": vocabulary.size}
    for split, tokens in streams.items():
        pieces = vocabulary.split(tokens)
        tokens.tofile(made.teacher_path(split))
        pieces.tofile(made.path(split))
        facts[f"{split}_teacher_tokens"], facts[f"{split}_tokens"] = len(tokens), len(pieces)
        facts[f"{split}_bytes"] = int(vocabulary.num_bytes[pieces].sum())
    facts["pieces_per_teacher_token"] = round(facts["train_tokens"] / facts["train_teacher_tokens"], 4)
    return {**facts, "sha256": {path.name: file_digest(path) for path in sorted(folder.glob("*.bin"))}}


def check_streams(folder: Path) -> None:
    """Raises HilnasError for a stream that is not what was written."""
    sums, made = (finished(folder) or {})["metrics"]["sha256"], TokenDir(folder)
    for path in (path for split in SPLITS for path in (made.path(split), made.teacher_path(split))):
        if not path.exists() or file_digest(path) != sums[path.name]:
            raise HilnasError(f"{path} is missing or not what was written")
