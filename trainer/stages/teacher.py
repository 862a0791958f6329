"""Stage ``teacher``: its top-K log-probabilities about every token of the training stream, on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from trainer.data.vocabulary import VOCABULARY, Vocabulary
from trainer.pipeline.chain import finished
from trainer.pipeline.stage import Stage, StageContext
from trainer.teacher.model import MappedTeacher, answered, load_teacher, teacher_directory
from trainer.teacher.topk_cache import CacheSpec, TopKCache, open_cache


@dataclass(frozen=True)
class TeacherStage(Stage):
    """``max_tokens`` of the student's stream are asked about, the first ones; all of it without."""

    kind: ClassVar[str] = "teacher"
    teacher: str
    teacher_identity: str
    k: int = 32
    max_tokens: int | None = None
    window: int = 256
    shard_tokens: int = 16_384

    @property
    def inputs(self) -> tuple[str, ...]:
        return ("data",)

    def run(self, context: StageContext) -> dict[str, Any]:
        data = context.inputs["data"]
        cache = TopKCache(context.folder / "cache", self.spec(data))
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = load_teacher(teacher_directory(self.teacher, context.cache), device)
        tokens = np.fromfile(data / "train.teacher.bin", np.int32)
        mapped = MappedTeacher(model, Vocabulary.load(data / VOCABULARY), tokens, self.k, self.window)
        cache.fill(mapped, context.progress)
        logprobs, _ = cache.read(0, min(cache.spec.num_tokens, 65_536))
        told = answered(logprobs)
        return {
            "num_tokens": cache.spec.num_tokens, "answered_share": round(float(told.float().mean()), 4),
            "mean_top_k_mass": round(float(logprobs[told].logsumexp(-1).exp().mean()), 4),
        }  # fmt: skip

    def spec(self, data: Path) -> CacheSpec:
        """The cache of this stage over the stream in ``data``."""
        metrics = (finished(data) or {})["metrics"]
        source = f"{self.teacher_identity}, {data.name}, windows of {self.window}"
        num_tokens = min(metrics["train_tokens"], self.max_tokens or metrics["train_tokens"])
        return CacheSpec(source, num_tokens, metrics["vocab_size"], self.k, self.shard_tokens)

    def check(self, folder: Path) -> None:
        """Raises CacheBroken; running again then computes that shard alone."""
        open_cache(folder).check()
