"""Stage ``corpus``: documents to token streams in a tokenizer learned from the training part, for training
without a teacher."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from trainer.data.corpus import training_documents
from trainer.data.sources import open_source
from trainer.data.token_dir import TokenDir
from trainer.data.tokenizer import learn_tokenizer, own_vocabulary
from trainer.pipeline.brief import Brief
from trainer.pipeline.costing import Cost
from trainer.pipeline.stage import STAGES, Stage, StageContext, StageDir
from trainer.stages.data import REHEARSED_SHARE, REHEARSED_TOKENS, check_streams, corpus_cost, write_corpus


@STAGES.register("corpus")
@dataclass(frozen=True)
class CorpusStage(Stage):
    """``vocab_size`` at most: fewer where the text has fewer pairs of tokens to merge."""

    kind: ClassVar[str] = "corpus"
    title: ClassVar[str] = "documents to token streams in a tokenizer learned from them"
    output: ClassVar[type[StageDir]] = TokenDir
    sources: tuple[str, ...]
    vocab_size: int
    max_tokens: int
    held_out_share: float = 0.1

    def run(self, context: StageContext) -> dict[str, Any]:
        sources = [open_source(spec, context.cache) for spec in self.sources]
        context.progress(0.2, "sources at hand")
        tokenizer = learn_tokenizer(training_documents(sources, self.held_out_share), self.vocab_size)
        vocabulary = own_vocabulary(tokenizer)
        return write_corpus(context, sources, tokenizer, tokenizer, vocabulary, self.max_tokens, self.held_out_share)

    def cost(self, costing: object) -> Cost:
        return corpus_cost(self.max_tokens)

    def shortened(self, brief: Brief) -> CorpusStage:
        return replace(self, sources=(brief.text,), max_tokens=REHEARSED_TOKENS, held_out_share=REHEARSED_SHARE)

    def check(self, folder: Path) -> None:
        super().check(folder)
        check_streams(folder)
