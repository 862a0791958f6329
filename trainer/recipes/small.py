"""``small``: one GPU, hours; 50 M parameters in LFM2's layout, contexts of 1k, 8k and 32k."""

from __future__ import annotations

from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from trainer.data.mixture import Part
from trainer.pipeline.stage import Recipe
from trainer.preference.candidates import Rollouts
from trainer.recipes.alignment import Alignment, loop, plays
from trainer.recipes.config import Phase, RecipeConfig, recipe_of
from trainer.recipes.registry import RecipeOptions

K = 1024
ATTENTION = (2, 4, 6, 8)


def small_student() -> ArchConfig:
    """Four GQA layers among ten, as LFM2 has six among sixteen; starts and ends with convolutions."""
    conv, attention = GatedShortConv(3), Gqa(8, 4, 64)
    layers = tuple(LayerConfig(attention if i in ATTENTION else conv, SwiGLU(2048)) for i in range(10))
    return ArchConfig(512, 16_384, layers)


CONFIG = RecipeConfig(
    name="small",
    student=small_student,
    vocabulary=16_384,
    parts=(
        Part("datasets:HuggingFaceTB/smollm-corpus@fineweb-edu-dedup", 0.75, "ODC-By 1.0"),
        Part("datasets:HuggingFaceTB/smollm-corpus@cosmopedia-v2", 0.25, "ODC-By 1.0"),
    ),
    text_tokens=4e9,
    teacher_tokens=1e9,
    pretrain=Phase(4e9, 256 * K, K, 2e-3, 500, micro_batch=32, kd_weight=0.5),
    extend=Phase(0.4e9, 256 * K, 8 * K, 8e-4, 100, micro_batch=4, decay_share=0.8),
    stretch=Phase(0.1e9, 256 * K, 32 * K, 3e-4, 20, decay_share=0.8),
    sft=Phase(40e6, 64 * K, 4 * K, 3e-4, 50, micro_batch=8, schedule="cosine", final_share=1 / 300),
    specialist=Phase(30e6, 64 * K, 4 * K, 3e-4, 50, micro_batch=8, schedule="cosine", final_share=1 / 300),
    count=20_000,
    written=5_000,
    contexts=(K, 8 * K, 32 * K),
    alignment=Alignment(
        texts=4_000, per_task=500, rollouts=Rollouts(max_new_tokens=256), teacher_share=0.1,
        preference=loop(250, 64, K, 2e-6, schedule="cosine", save_every=50, autocast=False),
        demonstrated=4_000, repeated=1_000, cold_start=loop(200, 32, K, 2e-4, save_every=50),
        sampling=plays(32, 8, 256, 2 * K), most_level=3,
        rl=loop(400, 256, K, 5e-6, micro_batch=32, weight_decay=0.0, save_every=20), rounds=2,
        qat=loop(400, 64, K, 5e-5, save_every=100),
    ),
    notes=(
        "top K = 32 and the decoupled, tempered objective are LFM2's (arXiv 2511.23404, section 3.3); so are AdamW's"
        " betas, decay, clipping and the cosine of fine-tuning (section 4.2)",
        "kd_weight, temperature, learning rates, batches, token budgets and every threshold are ours",
        "80 tokens a parameter are 4 times Chinchilla's 20: a student of 50 M is made to be run often",
        "the teacher speaks about a quarter of the tokens: its forward pass costs more than a step of the student",
    ),
)


def small(arch: ArchConfig | None = None, options: RecipeOptions = RecipeOptions()) -> Recipe:
    """Wants a data set host; with ``--scale`` under 0.01 it is a trial of an hour."""
    return recipe_of(CONFIG, arch, options)
