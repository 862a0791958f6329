"""What a recipe costs before it is run: tokens, FLOPs, GPU hours, memory and disk by stage; and why so many tokens.

A training step is three forward passes (6 FLOPs a multiply-add); attention is counted at half the row's length, as
causal attention reads it, which is too much where documents are shorter than rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from foundation.errors import InvalidConfig
from search_space import cost
from search_space.arch import ArchConfig
from trainer.engine.config import LoopConfig
from trainer.pipeline.stage import Recipe, Stage
from trainer.stages.data import DataStage
from trainer.stages.pairs import PairsStage
from trainer.stages.pretrain import PretrainStage
from trainer.stages.rl import RlStage
from trainer.stages.synthetic import SyntheticStage
from trainer.stages.teacher import TeacherStage

CHINCHILLA = 20  # tokens a parameter (Hoffmann et al. 2022)
LFM2_5_TOKENS, LFM2_5_PARAMS = 28e12, 354_483_968
LOGIT_BYTES = 10  # bfloat16, its float32 copy and the gradient
STATE_BYTES = 16  # float32 weight and gradient, AdamW's two moments
TOKENS_WRITTEN = 300  # that a teacher reads and writes for one example
CACHED_BYTES = 6  # of one of the teacher's top entries: float16 or float32 and an id


@dataclass(frozen=True)
class Device:
    """``num`` equal GPUs; ``peak_flops`` of one, dense, of which a share ``mfu`` is reached."""

    num: int
    peak_flops: float
    mfu: float
    price: float | None = None
    memory_bytes: float = 80e9

    def __post_init__(self) -> None:
        if self.num < 1 or self.peak_flops <= 0 or not 0 < self.mfu <= 1:
            raise InvalidConfig(
                f"{self.num} GPUs of {self.peak_flops:.3g} FLOP/s at a share of {self.mfu} are no device; give at least"
                " one, a peak over 0 and a share up to 1"
            )

    def hours(self, flops: float) -> float:
        """Of one GPU."""
        return flops / (self.peak_flops * self.mfu) / 3600


def plan_of(recipe: Recipe, device: Device, teacher_params: int) -> dict[str, Any]:
    arch = student_of(recipe)
    rows = [_row(stage, arch, device, teacher_params) for stage in recipe.stages]
    told = [row for row in rows if row is not None]
    total = {key: sum(row.get(key, 0) for row in told) for key in ("tokens", "flops", "gpu_hours")}
    total["hours"] = total["gpu_hours"] / device.num
    if device.price is not None:
        total["cost"] = total["gpu_hours"] * device.price
    return {
        "recipe": recipe.name, "params": cost.params(arch), "gpus": device.num, "peak_flops": device.peak_flops,
        "mfu": device.mfu, "teacher_params": teacher_params, "price": device.price, "stages": told, "total": total,
        "too_large": too_large(told, device), "budget": budget(cost.params(arch), total["tokens"]),
        "notes": list(recipe.notes),
        "not_counted": "evaluations, filters, curriculum, merging and export: minutes to a few hours of one GPU",
    }  # fmt: skip


def too_large(rows: list[dict[str, Any]], device: Device) -> list[str]:
    """A sentence for every stage that does not fit the GPU."""
    most = device.memory_bytes
    return [
        f"{row['stage']} needs {row['memory_bytes'] / 1e9:.0f} GB a GPU, more than {most / 1e9:.0f}: take larger GPUs"
        " for it, or shorter rows"
        for row in rows if row.get("memory_bytes", 0) > most
    ]  # fmt: skip


def student_of(recipe: Recipe) -> ArchConfig:
    return next(ArchConfig.from_dict(stage.arch) for stage in recipe.stages if isinstance(stage, PretrainStage))


def _row(stage: Stage, arch: ArchConfig, device: Device, teacher_params: int) -> dict[str, Any] | None:
    if isinstance(stage, DataStage):  # both streams, and their parts before they are joined
        return {"stage": stage.name, "text_tokens": stage.max_tokens, "host_memory_bytes": 4 * 4 * stage.max_tokens,
                "disk_bytes": 2 * 4 * stage.max_tokens}  # fmt: skip
    if isinstance(stage, TeacherStage):
        asked = stage.max_tokens or 0
        flops = 2.0 * teacher_params * asked
        return {"stage": stage.name, "teacher_tokens": asked, "flops": flops, "gpu_hours": device.hours(flops),
                "disk_bytes": CACHED_BYTES * stage.k * asked}  # fmt: skip
    if isinstance(stage, SyntheticStage):
        written = sum(count for source, count in stage.sources if source.startswith("teacher:"))
        flops = 2.0 * teacher_params * written * TOKENS_WRITTEN
        return {"stage": stage.name, "examples": sum(count for _, count in stage.sources), "flops": flops,
                "gpu_hours": device.hours(flops)}  # fmt: skip
    if isinstance(stage, PairsStage):
        questions = stage.texts + stage.per_task * len(stage.tasks)
        return _spoken(
            stage.name, questions * (stage.rollouts.sampled + 1) * stage.rollouts.max_new_tokens, arch, device
        )
    if isinstance(stage, RlStage):
        return _reinforced(stage, arch, device)
    loop = getattr(stage, "loop", None)
    return _trained(stage.name, loop, arch, device) if isinstance(loop, LoopConfig) else None


def _spoken(name: str, tokens: int, arch: ArchConfig, device: Device) -> dict[str, Any]:
    """Written by the student, at most; a decoded token costs a forward pass, and bandwidth that is not counted."""
    flops = 2.0 * cost.macs_per_token(arch, 0) * tokens
    return {"stage": name, "tokens": tokens, "flops": flops, "gpu_hours": device.hours(flops)}


def _reinforced(stage: RlStage, arch: ArchConfig, device: Device) -> dict[str, Any]:
    """Every episode at its full length: written once with one refill, learned from once, and read half a time more."""
    play, rounds = stage.sampling.play, stage.loop.steps
    episodes = rounds * stage.sampling.groups * stage.sampling.size
    spoken = _spoken(stage.name, 2 * episodes * play.max_new_tokens, arch, device)
    learned = (6.0 + 1.0) * cost.macs_per_token(arch, play.max_length // 2) * episodes * play.max_length
    flops = spoken["flops"] + learned
    return {**spoken, "steps": rounds, "length": play.max_length, "flops": flops, "gpu_hours": device.hours(flops)}


def _trained(name: str, loop: LoopConfig, arch: ArchConfig, device: Device) -> dict[str, Any]:
    tokens = loop.steps * loop.batch * loop.length
    matrices = 6.0 * cost.macs_per_token(arch, 0)
    attention = 6.0 * cost.macs_per_token(arch, loop.length // 2) - matrices
    flops = (matrices + attention) * tokens
    return {
        "stage": name, "tokens": tokens, "steps": loop.steps, "length": loop.length, "flops": flops,
        "attention_share": round(attention / (matrices + attention), 4), "gpu_hours": device.hours(flops),
        "memory_bytes": memory_bytes(arch, loop, device.num),
    }  # fmt: skip


def memory_bytes(arch: ArchConfig, loop: LoopConfig, gpus: int) -> int:
    """Of one GPU, estimated: states shared by all, the embedding gathered, activations and logits of one forward pass
    kept whole (the loop recomputes nothing)."""
    rows = min(loop.micro_batch, max(1, loop.batch // gpus))
    widths = sum(lin.in_features + lin.out_features for layer in arch.layers for lin in cost.layer_linears(arch, layer))
    kept = 2 * widths + 8 * arch.d_model * arch.depth
    states = STATE_BYTES * cost.params(arch) // gpus + 4 * cost.embedding_params(arch)
    return states + rows * loop.length * (kept + LOGIT_BYTES * arch.vocab_size)


def expected_loss(params: float, tokens: float) -> float:
    """Nats a token by the parametric fit of Hoffmann et al. (2022), equation 10; far outside its data a guess."""
    return 1.69 + 406.4 / params**0.34 + 410.7 / tokens**0.28


def budget(params: int, tokens: float) -> str:
    """Why so many tokens, with numbers."""
    least, ours, theirs = (expected_loss(params, d) for d in (CHINCHILLA * params, tokens, LFM2_5_TOKENS))
    times = tokens / (CHINCHILLA * params)
    return (
        f"{_short(tokens)} tokens are {tokens / params:,.0f} a parameter, {times:.2g} times the compute-optimal"
        f" {_short(CHINCHILLA * params)} (Chinchilla, 20 a parameter); LFM2.5-350M read 28 T,"
        f" {LFM2_5_TOKENS / LFM2_5_PARAMS:,.0f} a parameter. Hoffmann's fit expects {least:.2f} nats a token at the"
        f" optimum, {ours:.2f} at ours, {theirs:.2f} at 28 T: {least - ours:.2f} less for {times:.2g} times the"
        f" compute, then {ours - theirs:.2f} less for another {LFM2_5_TOKENS / tokens:,.0f} times. A model for phones"
        " is paid for in use, so it is trained past the optimum, as far as the budget goes."
    )


def shown(plan: dict[str, Any]) -> str:
    """A table for people."""
    price = "" if plan["price"] is None else f", {plan['price']:g} a GPU hour"
    peak = plan["peak_flops"] / 1e12
    lines = [
        f"{plan['recipe']}: {plan['params']:,} parameters, {plan['gpus']} GPUs of {peak:.0f} TFLOP/s at"
        f" {plan['mfu']:.0%}{price}; a teacher of {plan['teacher_params'] / 1e9:.3g} B",
        f"{'stage':<15}{'tokens':>10}{'row':>8}{'FLOPs':>10}{'attention':>11}{'GPU h':>9}{'GPU GB':>8}{'disk GB':>9}",
    ]
    lines += [_line(row) for row in plan["stages"]]
    total = plan["total"]
    costs = "" if "cost" not in total else f", {total['cost']:,.0f} in all"
    sums = f"{'total':<15}{_short(total['tokens']):>10}{'':>8}{total['flops']:>10.2e}{'':>11}{total['gpu_hours']:>9.1f}"
    host = max((row.get("host_memory_bytes", 0) for row in plan["stages"]), default=0)
    told = [f"{sums}   {total['hours']:.1f} h on {plan['gpus']} GPUs{costs}",
            f"the data stage holds {host / 1e9:,.0f} GB in memory; not counted: {plan['not_counted']}"]  # fmt: skip
    return "\n".join((*lines, *told, *plan["too_large"], plan["budget"]))


def _line(row: dict[str, Any]) -> str:
    tokens = next((row[key] for key in ("tokens", "teacher_tokens", "text_tokens") if key in row), None)
    cell = lambda key, text: text.format(row[key]) if key in row else ""  # noqa: E731
    memory, disk = (f"{row[key] / 1e9:.1f}" if key in row else "" for key in ("memory_bytes", "disk_bytes"))
    return (
        f"{row['stage']:<15}{_short(tokens):>10}{cell('length', '{:,}'):>8}{cell('flops', '{:.2e}'):>10}"
        f"{cell('attention_share', '{:.1%}'):>11}{cell('gpu_hours', '{:.1f}'):>9}{memory:>8}{disk:>9}"
    )


def _short(count: float | None) -> str:
    if count is None:
        return ""
    size, name = next(((s, n) for s, n in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")) if count >= s), (1.0, ""))
    return f"{count / size:.3g} {name}".strip()
