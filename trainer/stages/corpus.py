"""Stage ``corpus``: documents to token streams in a tokenizer learned from them, for training without a teacher."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from trainer.data.corpus import build_corpus, write_card
from trainer.data.sources import open_source
from trainer.data.token_dir import TokenDir
from trainer.data.tokenizer import learn_tokenizer, own_vocabulary
from trainer.pipeline.brief import Brief
from trainer.pipeline.costing import Cost
from trainer.pipeline.stage import STAGES, Stage, StageContext, StageDir
from trainer.stages.data import REHEARSED_SHARE, REHEARSED_TOKENS, check_streams, write_streams


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
        tokenizer = learn_tokenizer((text for one in sources for text in one.documents()), self.vocab_size)
        vocabulary = own_vocabulary(tokenizer)
        streams, counts = build_corpus(sources, tokenizer, vocabulary, self.max_tokens, self.held_out_share)
        metrics = write_streams(context.folder, streams, vocabulary)
        TokenDir(context.folder).save(tokenizer, vocabulary)
        write_card(context.folder, counts, {k: v for k, v in metrics.items() if not isinstance(v, dict)})
        return metrics

    def cost(self, costing: object) -> Cost:
        return {"text_tokens": self.max_tokens, "host_memory_bytes": 4 * 4 * self.max_tokens,
                "disk_bytes": 2 * 4 * self.max_tokens}  # fmt: skip

    def shortened(self, brief: Brief) -> CorpusStage:
        return replace(self, sources=(brief.text,), max_tokens=REHEARSED_TOKENS, held_out_share=REHEARSED_SHARE)

    def check(self, folder: Path) -> None:
        super().check(folder)
        check_streams(folder)
