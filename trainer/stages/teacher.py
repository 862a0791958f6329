"""Stage ``teacher``: its top-K log-probabilities about every token of the training stream, on disk."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch

from trainer.data.token_dir import TokenDir
from trainer.pipeline.brief import Brief
from trainer.pipeline.costing import Cost, Costing
from trainer.pipeline.fields import source
from trainer.pipeline.stage import STAGES, Stage, StageContext, StageDir
from trainer.teacher.directory import teacher_directory
from trainer.teacher.model import MappedTeacher, answered, load_teacher
from trainer.teacher.topk_cache import CacheSpec, LogprobsDir, TopKCache

CACHED_BYTES = 6  # of one of the top entries: float16 or float32 and an id
REHEARSED_TOKENS = 1_000


@STAGES.register("teacher")
@dataclass(frozen=True)
class TeacherStage(Stage):
    """``max_tokens`` of the student's stream are asked about, the first ones; all of it without."""

    kind: ClassVar[str] = "teacher"
    title: ClassVar[str] = "the teacher's top log-probabilities of the training text"
    output: ClassVar[type[StageDir]] = LogprobsDir
    teacher: str
    teacher_identity: str
    k: int = 32
    max_tokens: int | None = None
    window: int = 256
    shard_tokens: int = 16_384
    data: str = field(default="data", metadata=source(TokenDir, "never"))

    def run(self, context: StageContext) -> dict[str, Any]:
        tokens = context.read(TokenDir, self.data)
        cache = TopKCache(LogprobsDir(context.folder).path, self.spec(tokens))
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = load_teacher(teacher_directory(self.teacher, context.cache), device)
        mapped = MappedTeacher(model, tokens.vocabulary(), tokens.teacher_tokens("train"), self.k, self.window)
        cache.fill(mapped, context.progress)
        logprobs, _ = cache.read(0, min(cache.spec.num_tokens, 65_536))
        known = answered(logprobs)
        return {
            "num_tokens": cache.spec.num_tokens, "answered_share": round(float(known.float().mean()), 4),
            "mean_top_k_mass": round(float(logprobs[known].logsumexp(-1).exp().mean()), 4),
        }  # fmt: skip

    def spec(self, tokens: TokenDir) -> CacheSpec:
        """The cache of this stage over the training stream."""
        there = len(tokens.tokens("train"))
        asked = f"{self.teacher_identity}, {tokens.folder.name}, windows of {self.window}"
        return CacheSpec(
            asked, min(there, self.max_tokens or there), tokens.vocabulary().size, self.k, self.shard_tokens
        )

    def cost(self, costing: Costing) -> Cost:
        asked = self.max_tokens or 0
        return {
            "teacher_tokens": asked, **costing.asking_teacher(asked), "disk_bytes": CACHED_BYTES * self.k * asked
        }

    def shortened(self, brief: Brief) -> TeacherStage:
        return replace(self, max_tokens=REHEARSED_TOKENS, window=min(self.window, brief.row))
