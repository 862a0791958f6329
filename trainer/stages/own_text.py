"""Stage ``own_text``: documents to token streams in the tokens of the model that the chain goes on from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from foundation.files import copy_folder
from search_space.parents import COMPOSED_FROM
from trainer.data.corpus import build_corpus, write_card
from trainer.data.own_tokens import HELD_OUT_SHARE, own_vocabulary_of
from trainer.data.sources import open_source
from trainer.data.token_dir import TOKENIZER, TokenDir
from trainer.data.vocabulary import VOCABULARY
from trainer.engine.model_dir import ModelDir
from trainer.pipeline.brief import Brief
from trainer.pipeline.costing import Cost
from trainer.pipeline.fields import source
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
        metrics = write_streams(context.folder, streams, vocabulary)
        vocabulary.save(context.folder / VOCABULARY)
        copy_folder(start.path, context.folder / TOKENIZER, without=MODEL_FILES)
        write_card(context.folder, counts, {k: v for k, v in metrics.items() if not isinstance(v, dict)})
        return metrics

    def cost(self, costing: object) -> Cost:
        return corpus_cost(self.max_tokens)

    def shortened(self, brief: Brief) -> OwnTextStage:
        return replace(self, sources=(brief.text,), max_tokens=REHEARSED_TOKENS)

    def check(self, folder: Any) -> None:
        super().check(folder)
        check_streams(folder)
