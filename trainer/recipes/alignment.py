"""The second half of a recipe: preference, examples with tools, reinforcement learning of specialists and their merge,
quantization-aware training, the result. The same for every recipe; how much of it is what they differ in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from search_space import cost
from search_space.arch import ArchConfig
from trainer.engine.config import LoopConfig
from trainer.pipeline.stage import Stage
from trainer.preference.candidates import Rollouts
from trainer.quantization.rounding import check_width
from trainer.recipes.registry import RecipeOptions
from trainer.rl.config import RlConfig
from trainer.rl.groups import Sampling
from trainer.rollout.episodes import RolloutConfig
from trainer.stages.evaluate import EvaluateStage
from trainer.stages.filter import FilterStage
from trainer.stages.integrate import IntegrateStage
from trainer.stages.pairs import PairsStage
from trainer.stages.preference import PreferenceStage
from trainer.stages.qat import QatStage
from trainer.stages.result import ResultStage
from trainer.stages.rl import RlStage
from trainer.stages.sft import SftStage
from trainer.stages.synthetic import SyntheticStage

AGENTS = ("agent:lookup", "agent:compute", "agent:chain")
NOTES = (
    "five rollouts at a temperature, one greedy, best against worst, beta 5 and the joint loss with margin 0.1 and"
    " lambda 0.2 are LFM2's (section 4.3); the jury's axes and weights are ours",
    "clip bounds 0.2 and 0.28 are DAPO's (arXiv 2503.14476): LFM2.5 names its levers and gives no values; group size,"
    " caps, n-gram, penalty, thresholds of the curriculum and all learning rates are ours",
    "8da4w in groups of 32 with stochastic rounding: LFM2.5 names the rounding, the rest is ours",
)


@dataclass(frozen=True)
class Alignment:
    """``per_task`` preference questions of every task, ``texts`` openings; ``demonstrated`` solved questions of every
    agent task and ``repeated`` examples of every other, for a cold start. ``reasoning`` is the loop of the reasoning
    specialist, ``rl`` where absent, ``lacking`` that of its tasks that never rose, else a cold start's. ``rounds`` of
    specialists and merge, a later one half as long as the one before. ``budget_bytes`` is what the program may take in
    memory."""

    texts: int
    per_task: int
    rollouts: Rollouts
    teacher_share: float
    preference: LoopConfig
    demonstrated: int
    repeated: int
    cold_start: LoopConfig
    sampling: Sampling
    rl: LoopConfig
    most_level: int
    qat: LoopConfig
    reasoning: LoopConfig | None = None
    lacking: LoopConfig | None = None
    jury: tuple[str, ...] = ("correct weight=3", "no_loop weight=2", "finished", "likelihood")
    levers: RlConfig = RlConfig()
    rounds: int = 1
    loss: str = "joint"
    rounding: str = "stochastic"
    budget_bytes: float | None = None
    merges: tuple[str, ...] = ("linear", "slerp t=0.65", "task_arithmetic scale=0.8", "ties density=0.5")


@dataclass(frozen=True)
class PretrainedInput:
    """What the first half hands over: its last model's stage, its tasks, how it evaluates, the recipe's options."""

    model: str
    tasks: tuple[str, ...]
    tools: tuple[str, ...]
    reasoning: tuple[str, ...]
    evaluated: Callable[[str], EvaluateStage]
    options: RecipeOptions

    @property
    def all_tasks(self) -> tuple[str, ...]:
        return (*self.tasks, *AGENTS)


def check_widths(arch: ArchConfig) -> None:
    """Raises InvalidConfig for a layout that the last stages cannot quantize, before hours of training."""
    for layer in arch.layers:
        for linear in cost.layer_linears(arch, layer):
            check_width("a linear of the architecture", linear.in_features)
    check_width("the head", arch.d_model)


def scaled(given: Alignment, scale: float) -> Alignment:
    """Questions, examples and steps; groups and lengths stay."""

    def of(count: int, least: int) -> int:
        return max(least, round(count * scale))

    def steps(one: LoopConfig) -> LoopConfig:
        fewer = of(one.steps, 1)
        return replace(
            one, steps=fewer, warmup=min(one.warmup, max(1, fewer // 10)), save_every=min(one.save_every, fewer)
        )

    return replace(
        given, texts=of(given.texts, 2), per_task=of(given.per_task, 1), demonstrated=of(given.demonstrated, 4),
        repeated=of(given.repeated, 2), preference=steps(given.preference), cold_start=steps(given.cold_start),
        rl=steps(given.rl), reasoning=steps(given.reasoning or given.rl), qat=steps(given.qat),
        lacking=steps(given.lacking or given.cold_start),
    )  # fmt: skip


def aligned(pretrained: PretrainedInput, given: Alignment) -> tuple[Stage, ...]:
    """From ``pretrained.model`` to the result."""
    stages: list[Stage] = [*_preferred(pretrained, given), *_shown_tools(pretrained, given)]
    base = "preference"
    for index in range(given.rounds):
        suffix = f"_{index + 1}" if index else ""
        short = replace(
            given, rl=_shorter(given.rl, index), reasoning=_shorter(given.reasoning or given.rl, index),
            lacking=_shorter(given.lacking or given.cold_start, index),
        )  # fmt: skip
        stages += _specialists(pretrained, short, base, suffix)
        base = f"merge_rl{suffix}"
    return (*stages, *_quantized(pretrained, given, base))


def agents(count: int) -> tuple[str, ...]:
    """Suites of an evaluation."""
    return tuple(f"task:{name} count={count}" for name in AGENTS)


def _shorter(loop: LoopConfig, index: int) -> LoopConfig:
    return replace(loop, steps=max(1, loop.steps >> index), warmup=min(loop.warmup, max(1, loop.steps >> index)))


def _preferred(pretrained: PretrainedInput, given: Alignment) -> tuple[Stage, ...]:
    options = pretrained.options
    return (
        PairsStage(pretrained.model, options.teacher, options.teacher_id, pretrained.tasks, given.texts, given.per_task,
                   teacher_share=given.teacher_share, jury=given.jury, rollouts=given.rollouts),
        PreferenceStage(pretrained.model, loss=given.loss, loop=given.preference),
        pretrained.evaluated("preference"),
    )  # fmt: skip


def _shown_tools(pretrained: PretrainedInput, given: Alignment) -> tuple[Stage, ...]:
    """Examples of calls, among others so that these are not forgotten: without them a reward never comes."""
    options = pretrained.options
    sources = (*((name, given.demonstrated) for name in AGENTS), *((name, given.repeated) for name in pretrained.tasks))
    return (
        SyntheticStage(options.teacher, options.teacher_id, sources, label="agent_examples"),
        FilterStage(options.teacher, options.teacher_id, pretrained.all_tasks, source="agent_examples",
                    label="agent_data"),
        SftStage(start="preference", examples="agent_data", loop=given.cold_start, label="sft_agent",
                 processes=pretrained.options.processes),
        pretrained.evaluated("sft_agent"),
    )  # fmt: skip


def _specialists(pretrained: PretrainedInput, given: Alignment, base: str, suffix: str) -> tuple[Stage, ...]:
    """One for tools, one for reasoning, whose tasks that never rose get examples; both merged into ``base``."""
    tools, reasoning, cold, merge = (f"{name}{suffix}" for name in ("rl_tools", "rl_reasoning", "sft_cold", "merge_rl"))

    def rl(label: str, start: str, tasks: tuple[str, ...], loop: LoopConfig) -> Stage:
        return RlStage(start, tasks, given.most_level, given.sampling, given.levers, loop=loop, label=label)

    begin = "sft_agent" if base == "preference" else base
    return (
        rl(tools, begin, (*pretrained.tools, *AGENTS), given.rl), pretrained.evaluated(tools),
        rl(reasoning, base, pretrained.reasoning, given.reasoning or given.rl), pretrained.evaluated(reasoning),
        SftStage(start=reasoning, examples="sft_data", cold_start=reasoning, loop=given.lacking or given.cold_start,
                 label=cold, processes=pretrained.options.processes),
        pretrained.evaluated(cold),
        IntegrateStage(base, (tools, cold), pretrained.all_tasks, candidates=given.merges, label=merge),
        pretrained.evaluated(merge),
    )  # fmt: skip


def _quantized(pretrained: PretrainedInput, given: Alignment, model: str) -> tuple[Stage, ...]:
    return (
        QatStage(start=model, examples="agent_data", loop=given.qat, rounding=given.rounding,
                 processes=pretrained.options.processes),
        replace(pretrained.evaluated("qat"), quantized=True),
        ResultStage("qat", ("evaluate_qat",), against_random=True, budget_bytes=given.budget_bytes),
    )  # fmt: skip


def loop(steps: int, batch: int, length: int, rate: float, micro_batch: int = 8, **more: object) -> LoopConfig:
    """Of a short stage: cross-entropy alone, rows as they lie."""
    settings = {"kd_weight": 0.0, "in_order": True, "warmup": max(1, min(5, steps // 10)), "autocast": True, **more}
    return LoopConfig(steps=steps, batch=batch, length=length, learning_rate=rate, micro_batch=micro_batch, **settings)  # type: ignore[arg-type]


def plays(groups: int, size: int, max_new_tokens: int, max_length: int) -> Sampling:
    return Sampling(groups, size, RolloutConfig(max_new_tokens, max_length=max_length))
