"""Stage ``pretrain``: a student from random weights on packed text, with a teacher's distribution where known."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from foundation.errors import InvalidConfig
from search_space import cost
from search_space.arch import ArchConfig
from search_space.modeling.model import build_model
from trainer.data.token_dir import TokenDir
from trainer.data.vocabulary import Vocabulary
from trainer.engine.evaluate import bits_per_byte
from trainer.engine.model_dir import ModelDir
from trainer.pipeline.brief import Brief
from trainer.pipeline.fields import in_digest, source
from trainer.pipeline.stage import STAGES, StageContext
from trainer.stages.training import TrainingStage, train_on_stream
from trainer.teacher.topk_cache import LogprobsDir


@STAGES.register("pretrain")
@dataclass(frozen=True)
class PretrainStage(TrainingStage):
    """``processes`` is how many the launcher starts; it does not change the losses."""

    kind: ClassVar[str] = "pretrain"
    title: ClassVar[str] = "a student from random weights on packed text"
    data: str = field(default="data", kw_only=True, metadata=source(TokenDir, "never"))
    teacher: str | None = field(default="teacher", kw_only=True, metadata=source(LogprobsDir, "never"))
    arch: dict[str, Any]
    processes: int = field(default=1, metadata=in_digest("never"))

    def run(self, context: StageContext) -> dict[str, Any]:
        tokens, arch = context.read(TokenDir, self.data), ArchConfig.from_dict(self.arch)
        vocabulary = tokens.vocabulary()
        self._check_sizes(arch, vocabulary)
        teacher = context.inputs[self.teacher] if self.teacher else None
        trained = train_on_stream(context, self.loop, tokens, arch, self.processes, teacher)
        held_out = tokens.packed("held_out", self.loop.length)
        models = {"before": build_model(arch, seed=self.loop.seed), "after": ModelDir(context.folder).load()}
        bits = {when: bits_per_byte(model, held_out, vocabulary.num_bytes) for when, model in models.items()}
        return {
            "held_out_bits_per_byte": {when: round(value, 4) for when, value in bits.items()},
            "params": cost.params(arch), "embedding_share": round(cost.embedding_share(arch), 4), **trained,
        }  # fmt: skip

    def _check_sizes(self, arch: ArchConfig, vocabulary: Vocabulary) -> None:
        """A teacher's distribution is over the student's whole vocabulary; without one, rows may stay unused."""
        if arch.vocab_size == vocabulary.size or (self.teacher is None and arch.vocab_size > vocabulary.size):
            return
        raise InvalidConfig(
            f"the architecture has {arch.vocab_size} tokens and the data {vocabulary.size}; make them equal"
        )

    def shortened(self, brief: Brief) -> PretrainStage:
        return replace(self, loop=self.loop.once(brief.row))
