"""What recipes for GPUs have in common: a config in tokens, and the chain of stages that it stands for.

Text, teacher, pretraining, a longer context, YaRN, synthetic examples, filters, fine-tuning in two parts, a curriculum,
two specialists, their merge, then everything of ``alignment`` to the result; an evaluation after each that changes
the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from search_space.arch import ArchConfig
from trainer.data.mixture import Part, mixture_of
from trainer.engine.config import LoopConfig
from trainer.evaluation.subject import Settings
from trainer.pipeline.stage import Recipe, Stage
from trainer.recipes.alignment import NOTES, Alignment, PretrainedInput, agents, aligned, check_widths, scaled
from trainer.recipes.registry import RecipeOptions
from trainer.recipes.tiny import TASKS
from trainer.stages.curriculum import CurriculumStage
from trainer.stages.data import DataStage
from trainer.stages.evaluate import EvaluateStage
from trainer.stages.extend import ExtendStage
from trainer.stages.filter import FilterStage
from trainer.stages.integrate import DEFAULT_CANDIDATES, IntegrateStage
from trainer.stages.pretrain import PretrainStage
from trainer.stages.sft import SftStage
from trainer.stages.synthetic import SyntheticStage
from trainer.stages.teacher import TeacherStage

MIN_SCALE, MAX_SCALE = 1e-6, 10
LOOP_TOKENS = 256  # that a text must come to its end within
WRITTEN = ("teacher:extraction", "teacher:answers")
SPECIALISTS = {"sft_reasoning": ("reasoning:",), "sft_tools": ("extraction", "tool_calls", "chat")}


@dataclass(frozen=True)
class Phase:
    """One training stage: ``tokens`` in all, ``step_tokens`` an update, in rows of ``length``."""

    tokens: float
    step_tokens: int
    length: int
    rate: float
    warmup: int
    micro_batch: int = 1
    schedule: Literal["wsd", "cosine"] = "wsd"
    decay_share: float = 0.2
    final_share: float = 0.1
    kd_weight: float = 0.0

    def loop(self, scale: float = 1.0, in_order: bool = False) -> LoopConfig:
        steps = max(1, round(self.tokens * scale / self.step_tokens))
        return LoopConfig(
            steps=steps, batch=self.step_tokens // self.length, micro_batch=self.micro_batch, length=self.length,
            learning_rate=self.rate, schedule=self.schedule, warmup=min(self.warmup, max(1, steps // 10)),
            decay_share=self.decay_share, final_share=self.final_share, kd_weight=self.kd_weight, autocast=True,
            save_every=min(500, steps), in_order=in_order,
        )  # fmt: skip


@dataclass(frozen=True)
class RecipeConfig:
    """``parts`` are the text in shares, ``text_tokens`` how much of it; ``teacher_tokens`` of it the teacher is asked
    about. ``count`` examples of every task, ``written`` of every kind by the teacher."""

    name: str
    student: Callable[[], ArchConfig]
    vocabulary: int
    parts: tuple[Part, ...]
    text_tokens: float
    teacher_tokens: float
    pretrain: Phase
    extend: Phase
    stretch: Phase
    sft: Phase
    specialist: Phase
    count: int
    written: int
    contexts: tuple[int, ...]
    alignment: Alignment
    notes: tuple[str, ...]
    yarn_factor: float = 4.0
    characters_per_token: float = 4.0
    held_out_share: float = 0.002
    tasks: tuple[str, ...] = TASKS
    suites: tuple[str, ...] = ("bfcl", "ifbench")
    evaluation_count: int = 200
    evaluation_rows: int = 32
    candidates: tuple[str, ...] = DEFAULT_CANDIDATES


def recipe_of(config: RecipeConfig, arch: ArchConfig | None, options: RecipeOptions) -> Recipe:
    """Raises InvalidConfig with a sentence for a scale or a teacher that cannot work."""
    options.check_tokens(config.name, config.vocabulary)
    options.check_scale(MIN_SCALE, MAX_SCALE)
    student = replace(arch or config.student(), vocab_size=config.vocabulary)
    check_widths(student)
    pretrained = PretrainedInput(
        "merge", config.tasks, _without(config, "reasoning:"), _of(config, "reasoning:"),
        lambda subject: _evaluated(config, subject, *agents(config.evaluation_count)), options,
    )  # fmt: skip
    aligning = aligned(pretrained, scaled(config.alignment, options.scale))
    stages = (*_pretraining(config, student, options), *_tuning(config, options), *aligning)
    return Recipe(config.name, stages, (*config.notes, *NOTES))


def _of(config: RecipeConfig, family: str) -> tuple[str, ...]:
    return tuple(task for task in config.tasks if task.startswith(family))


def _without(config: RecipeConfig, family: str) -> tuple[str, ...]:
    return tuple(task for task in config.tasks if not task.startswith(family))


def _pretraining(config: RecipeConfig, student: ArchConfig, options: RecipeOptions) -> tuple[Stage, ...]:
    """``extend`` trains on longer rows; ``stretch`` sets YaRN over that length and adapts it."""
    teacher, teacher_id, processes, scale = options.teacher, options.teacher_id, options.processes, options.scale
    tokens = max(10_000, round(config.text_tokens * scale))
    text = mixture_of(config.parts, tokens * config.characters_per_token * 1.1)
    return (
        DataStage(teacher, teacher_id, (text,), config.vocabulary, tokens, config.held_out_share),
        TeacherStage(teacher, teacher_id, max_tokens=max(2_000, round(config.teacher_tokens * scale)),
                     window=min(2048, config.pretrain.length)),
        PretrainStage(student.to_dict(), processes, loop=config.pretrain.loop(scale)),
        _evaluated(config, "pretrain", *_long(config)),
        ExtendStage(
            start="pretrain", loop=config.extend.loop(scale), original_length=config.extend.length, processes=processes
        ),
        _evaluated(config, "extend", *_long(config)),
        ExtendStage(
            start="extend", loop=config.stretch.loop(scale), yarn_factor=config.yarn_factor,
            original_length=config.extend.length, processes=processes, label="stretch",
        ),
        _evaluated(config, "stretch", *_long(config)),
    )  # fmt: skip


def _tuning(config: RecipeConfig, options: RecipeOptions) -> tuple[Stage, ...]:
    teacher, teacher_id, scale = options.teacher, options.teacher_id, options.scale
    count, written = max(4, round(config.count * scale)), max(2, round(config.written * scale))

    def sft(label: str, start: str, phase: Phase, tasks: tuple[str, ...] = (), curriculum: str | None = None) -> Stage:
        return SftStage(start=start, tasks=tasks, curriculum=curriculum, loop=phase.loop(scale, in_order=True),
                        processes=options.processes, label=label)  # fmt: skip

    specialists = [
        stage for label, tasks in SPECIALISTS.items()
        for stage in (sft(label, "sft", config.specialist, tasks, "curriculum"), _evaluated(config, label))
    ]  # fmt: skip
    return (
        SyntheticStage(teacher, teacher_id, (*((task, count) for task in config.tasks),
                                             *((w, written) for w in WRITTEN))),
        FilterStage(teacher, teacher_id, config.tasks, evaluation_count=config.evaluation_count),
        sft("sft_first", "stretch", config.sft),
        sft("sft", "sft_first", config.sft),
        _evaluated(config, "sft"),
        CurriculumStage(("stretch", "sft_first", "sft")),
        *specialists,
        IntegrateStage("sft", tuple(SPECIALISTS), config.tasks, count=config.evaluation_count, label="merge",
                       candidates=config.candidates),
        _evaluated(config, "merge", *_long(config)),
    )  # fmt: skip


def _long(config: RecipeConfig) -> tuple[str, ...]:
    rows = config.evaluation_rows
    return (f"loss_by_position length={config.extend.length} count={min(8, rows)}", f"retrieval count={min(4, rows)}")


def _evaluated(config: RecipeConfig, subject: str, *more: str) -> EvaluateStage:
    length, count, rows = config.pretrain.length, config.evaluation_count, config.evaluation_rows
    tasks = (f"task:{name} count={count}" for name in config.tasks)
    loops = f"doom_loops count={count} max_new_tokens={LOOP_TOKENS}"
    suites = (f"bits_per_byte length={length}", *tasks, loops, *config.suites, *more)
    return EvaluateStage(subject, suites=suites, settings=Settings(rows, length, config.contexts))
