"""A text, a teacher's word on its beginning and a student of about a million parameters: what experiments with
distillation share, so that their figures compare."""

from __future__ import annotations

from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from trainer.engine.config import LoopConfig
from trainer.pipeline.stage import Recipe
from trainer.recipes.tiny import SOURCES
from trainer.stages.data import DataStage
from trainer.stages.teacher import TeacherStage
from trainer.teacher.directory import SMOLLM2, identity

VOCABULARY = 4096
TEXT_TOKENS = 330_000  # of the teacher's
TAUGHT_TOKENS = 32_769  # of the student's, from the beginning of the text: those the teacher answers for
STUDENT = ArchConfig(
    128, VOCABULARY, tuple(LayerConfig(Gqa(2, 1, 64) if i == 2 else GatedShortConv(3), SwiGLU(384)) for i in range(4))
)
LOOP = LoopConfig(
    steps=48, batch=8, micro_batch=8, length=256, learning_rate=3e-3, warmup=10, autocast=True, save_every=10_000
)


def taught_text(teacher: str = SMOLLM2) -> Recipe:
    """Stages ``data`` and ``teacher``."""
    teacher_id = identity(teacher)
    return Recipe("taught_text", (
        DataStage(teacher, teacher_id, SOURCES, VOCABULARY, TEXT_TOKENS, held_out_share=0.1),
        TeacherStage(teacher, teacher_id, max_tokens=TAUGHT_TOKENS, shard_tokens=4096),
    ))  # fmt: skip
