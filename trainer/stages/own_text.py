"""Stages ``own_text`` and ``parent_text``: streams in the tokens of the model that the chain goes on from, made of
documents, or of the text that its parent was imported with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from foundation.files import copy_folder
from search_space.parents import COMPOSED_FROM
from trainer.data.corpus import SPLITS, build_corpus, write_card
from trainer.data.own_tokens import HELD_OUT_SHARE, own_vocabulary_of
from trainer.data.sources import open_source
from trainer.data.token_dir import TOKENIZER, TokenDir
from trainer.data.vocabulary import VOCABULARY, Vocabulary
from trainer.engine.model_dir import ModelDir
from trainer.pipeline.brief import Brief
from trainer.pipeline.costing import Cost
from trainer.pipeline.fields import in_digest, source
from trainer.pipeline.stage import STAGES, Stage, StageContext, StageDir
from trainer.stages.data import REHEARSED_TOKENS, check_streams, corpus_cost, write_streams

MODEL_FILES = (".safetensors", "/config.json", COMPOSED_FROM)  # beside the tokenizer's


@STAGES.register("own_text")
@dataclass(frozen=True)
class OwnTextStage(Stage):
    """Documents are split as for a parent: what candidates were judged on is not trained on."""

    kind: ClassVar[str] = "own_text"
    title: ClassVar[str] = "documents to token streams in a model's own tokens"
    output: ClassVar[type[StageDir]] = TokenDir
    sources: tuple[str, ...]
    max_tokens: int
    held_out_share: float = HELD_OUT_SHARE
    start: str = field(default="model", metadata=source(ModelDir))

    def run(self, context: StageContext) -> dict[str, Any]:
        start = context.read(ModelDir, self.start)
        sources = [open_source(spec, context.cache) for spec in self.sources]
        context.progress(0.2, "sources at hand")
        tokenizer, vocabulary = own_vocabulary_of(start.path, start.arch().vocab_size)
        streams, counts = build_corpus(sources, tokenizer, vocabulary, self.max_tokens, self.held_out_share)
        metrics = _written(context, start, streams, vocabulary)
        write_card(context.folder, counts, {k: v for k, v in metrics.items() if not isinstance(v, dict)})
        return metrics

    def cost(self, costing: object) -> Cost:
        return corpus_cost(self.max_tokens)

    def shortened(self, brief: Brief) -> OwnTextStage:
        return replace(self, sources=(brief.text,), max_tokens=REHEARSED_TOKENS)

    def check(self, folder: Path) -> None:
        super().check(folder)
        check_streams(folder)


@STAGES.register("parent_text")
@dataclass(frozen=True)
class ParentTextStage(Stage):
    """``path`` holds train.npy and held_out.npy, ``identity`` says which by content. What candidates were judged on is
    held out here too."""

    kind: ClassVar[str] = "parent_text"
    title: ClassVar[str] = "the text that a parent was imported with, as token streams"
    output: ClassVar[type[StageDir]] = TokenDir
    path: str = field(metadata=in_digest("never"))
    identity: str
    start: str = field(default="model", metadata=source(ModelDir))

    def run(self, context: StageContext) -> dict[str, Any]:
        start = context.read(ModelDir, self.start)
        _, vocabulary = own_vocabulary_of(start.path, start.arch().vocab_size)
        streams = {split: np.load(Path(self.path) / f"{split}.npy").astype(np.int32) for split in SPLITS}
        return _written(context, start, streams, vocabulary)

    def cost(self, costing: object) -> None:
        """A copy."""

    def shortened(self, brief: Brief) -> ParentTextStage:
        return self

    def check(self, folder: Path) -> None:
        super().check(folder)
        check_streams(folder)


def _written(
    context: StageContext, start: ModelDir, streams: dict[str, NDArray[np.int32]], vocabulary: Vocabulary
) -> dict[str, Any]:
    """A TokenDir with the model's own tokenizer."""
    metrics = write_streams(context.folder, streams, vocabulary)
    vocabulary.save(context.folder / VOCABULARY)
    copy_folder(start.path, context.folder / TOKENIZER, without=MODEL_FILES)
    return metrics
