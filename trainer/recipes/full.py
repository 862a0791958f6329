"""``full``: the chain of ``tiny`` up to its last merge, then everything that makes it a model to talk to: preference,
tools, reinforcement learning, quantization-aware training, the program. Two CPU cores, three quarters of an hour."""

from __future__ import annotations

from dataclasses import replace

from search_space.arch import ArchConfig
from trainer.pipeline.stage import Recipe
from trainer.preference.candidates import Rollouts
from trainer.recipes import alignment
from trainer.recipes.alignment import Alignment, PretrainedInput, agents, aligned, check_widths, loop, plays
from trainer.recipes.registry import RecipeOptions
from trainer.recipes.tiny import REASONING, SKILLS, TASKS, TOOLS, tiny, tiny_student
from trainer.stages.evaluate import EvaluateStage

LOOPS = "doom_loops count=64 max_new_tokens=256"


def full(arch: ArchConfig | None = None, options: RecipeOptions = RecipeOptions()) -> Recipe:
    first = tiny(arch, options)
    check_widths(arch or tiny_student())
    # every evaluation of a model also counts doom loops
    stages = [replace(stage, suites=(*stage.suites, LOOPS)) if isinstance(stage, EvaluateStage) else stage
              for stage in first.stages[:-1]]  # fmt: skip
    given = PretrainedInput("merge_2", TASKS, TOOLS, REASONING, evaluated, options)
    return Recipe("full", (*stages, *aligned(given, settings(options.scale))), (*first.notes, *alignment.NOTES))


def settings(scale: float) -> Alignment:
    """Steps that two cores do in minutes."""

    def of(count: int, least: int = 2) -> int:
        return max(least, round(count * scale))

    return Alignment(
        texts=of(80), per_task=of(5), rollouts=Rollouts(max_new_tokens=96), teacher_share=0.1,
        preference=loop(of(36), 8, 512, 3e-5, schedule="cosine", autocast=False, save_every=12),
        demonstrated=of(500, 20), repeated=of(100, 10),
        cold_start=loop(of(70), 16, 256, 8e-4, save_every=25),
        sampling=plays(12, 8, 48, 320), most_level=1,
        rl=loop(of(100), 96, 128, 1.2e-4, micro_batch=48, weight_decay=0.0, save_every=10),
        reasoning=loop(of(30), 96, 128, 1.2e-4, micro_batch=48, weight_decay=0.0, save_every=10),
        lacking=loop(of(25), 16, 256, 2e-4, save_every=25),
        qat=loop(of(50), 16, 256, 5e-4, decay_share=0.9, final_share=0.01, save_every=25),
        budget_bytes=100e6,
    )  # fmt: skip


def evaluated(subject: str) -> EvaluateStage:
    return EvaluateStage(subject, suites=(*SKILLS, LOOPS, *agents(100)))
