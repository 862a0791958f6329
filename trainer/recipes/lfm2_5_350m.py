"""``lfm2_5_350m``: LFM2-350M's architecture on many GPUs, trained as LFM2's report and words on LFM2.5 say."""

from __future__ import annotations

from search_space.arch import ArchConfig
from search_space.presets import lfm2_350m
from trainer.data.mixture import Part
from trainer.pipeline.stage import Recipe
from trainer.preference.candidates import Rollouts
from trainer.recipes.alignment import Alignment, loop, plays
from trainer.recipes.config import Phase, RecipeConfig, recipe_of
from trainer.recipes.registry import RecipeOptions

K = 1024
WEB = "datasets:HuggingFaceFW/fineweb-2@"
# 75 % English, 20 % multilingual, 5 % code as LFM2; which sets stand for them is ours
PARTS = (
    Part("datasets:HuggingFaceTB/smollm-corpus@fineweb-edu-dedup", 0.50, "ODC-By 1.0"),
    Part("datasets:HuggingFaceTB/smollm-corpus@cosmopedia-v2", 0.15, "ODC-By 1.0"),
    Part("datasets:open-web-math/open-web-math", 0.10, "ODC-By 1.0"),
    *(Part(f"{WEB}{language}", 0.20 / 6, "ODC-By 1.0")
      for language in ("jpn_Jpan", "arb_Arab", "kor_Hang", "spa_Latn", "fra_Latn", "deu_Latn")),
    Part("datasets:bigcode/starcoderdata#content", 0.05, "each file's own permissive licence; access on request"),
)  # fmt: skip
SFT = {"step_tokens": 8 * 32 * K, "length": 32 * K, "rate": 3e-5, "warmup": 500, "final_share": 1 / 300}

CONFIG = RecipeConfig(
    name="lfm2_5_350m",
    student=lfm2_350m,
    vocabulary=65_536,
    parts=PARTS,
    text_tokens=100e9,
    teacher_tokens=20e9,
    pretrain=Phase(100e9, 1024 * K, 4 * K, 2e-3, 2000, micro_batch=8, kd_weight=0.5),
    extend=Phase(10e9, 1024 * K, 32 * K, 5e-4, 200, decay_share=0.8),
    stretch=Phase(1e9, 1024 * K, 64 * K, 1e-4, 50, decay_share=0.8),
    sft=Phase(300e6, schedule="cosine", **SFT),  # type: ignore[arg-type]
    specialist=Phase(150e6, schedule="cosine", **SFT),  # type: ignore[arg-type]
    count=200_000,
    written=100_000,
    contexts=(4 * K, 32 * K, 128 * K),
    alignment=Alignment(
        texts=60_000, per_task=5_000, rollouts=Rollouts(max_new_tokens=512), teacher_share=0.2,
        preference=loop(98, 2048, K, 8e-7, schedule="cosine", warmup=1, save_every=25, autocast=False),
        demonstrated=40_000, repeated=10_000, cold_start=loop(300, 64, 2 * K, 2e-5, save_every=100),
        sampling=plays(64, 16, 1024, 4 * K), most_level=5,
        rl=loop(1000, 1024, 2 * K, 1e-6, micro_batch=16, weight_decay=0.0, save_every=20), rounds=3,
        qat=loop(500, 256, 2 * K, 1e-5, save_every=100),
    ),
    evaluation_count=500,
    notes=(
        "LFM2's (arXiv 2511.23404): the architecture (table 1); top K = 32, decoupled and tempered (3.3); 4,096 then"
        " 32,768 tokens of context with a quicker decay, a tenth of the tokens in the second part (3.1); 75 % English,"
        " 20 % multilingual, 5 % code (3.1); fine-tuning at 32,768 tokens, cosine from 3e-5 to 1e-7, 500 steps of"
        " warm-up (a tenth of the steps where that is less), AdamW 0.9 / 0.95, decay 0.1, clipping 1.0 (4.2); filters"
        " in their order (4.2); merging methods (4.4)",
        "LFM2.5's by word only: 128k by YaRN (its parameters were not published: factor 4 over 32k is ours)",
        "ours: token budgets (LFM2.5 read 28T), data sets, teacher (LFM1-7B is not public), kd_weight, temperature,"
        " pretraining's learning rates and batches, thresholds of filters, densities and scales of merging",
        "128k is adapted on rows of 64k: longer ones do not fit a GPU as long as logits and activations are kept whole",
        "preference as LFM2's (4.3): beta 5, cosine from 8e-7 to a tenth, 2,048 pairs of 1,024 tokens a step, two"
        " epochs; of fewer pairs (100 thousand questions, not 700 thousand pairs)",
        "not here: fill-in-the-middle, dropout of embeddings in fine-tuning, refinement of instructions by CLAIR",
    ),
)


def lfm2_5_350m(arch: ArchConfig | None = None, options: RecipeOptions = RecipeOptions()) -> Recipe:
    """SmolLM2's 49,152 tokens are too few for 65,536: it wants another teacher's directory."""
    return recipe_of(CONFIG, arch, options)
