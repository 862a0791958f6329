"""What a recipe costs before it is run, by stage; and why so many tokens. Each stage says what it takes itself."""

from __future__ import annotations

from typing import Any

from search_space import cost
from search_space.arch import ArchConfig
from trainer.pipeline.costing import Costing, Device
from trainer.pipeline.stage import Recipe
from trainer.stages.pretrain import PretrainStage

CHINCHILLA = 20  # tokens a parameter (Hoffmann et al. 2022)
LFM2_5_TOKENS, LFM2_5_PARAMS = 28e12, 354_483_968


def plan_of(recipe: Recipe, device: Device, teacher_params: int) -> dict[str, Any]:
    arch = student_of(recipe)
    costing = Costing(arch, device, teacher_params)
    costs = {stage.name: stage.cost(costing) for stage in recipe.stages}
    rows = [{"stage": name, **row} for name, row in costs.items() if row is not None]
    uncounted = dict.fromkeys(stage.kind for stage in recipe.stages if costs[stage.name] is None)
    total = {key: sum(row.get(key, 0) for row in rows) for key in ("tokens", "flops", "gpu_hours")}
    total["hours"] = total["gpu_hours"] / device.num
    if device.price is not None:
        total["cost"] = total["gpu_hours"] * device.price
    return {
        "recipe": recipe.name, "params": cost.params(arch), "gpus": device.num, "peak_flops": device.peak_flops,
        "mfu": device.mfu, "teacher_params": teacher_params, "price": device.price, "stages": rows, "total": total,
        "too_large": too_large(rows, device), "budget": budget(cost.params(arch), total["tokens"]),
        "notes": list(recipe.notes),
        "not_counted": f"{', '.join(uncounted)}: minutes to a few hours of one GPU" if uncounted else "nothing",
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


def expected_loss(params: float, tokens: float) -> float:
    """Nats a token by the parametric fit of Hoffmann et al. (2022), equation 10; far outside its data a guess."""
    return 1.69 + 406.4 / params**0.34 + 410.7 / tokens**0.28


def budget(params: int, tokens: float) -> str:
    """Why so many tokens, with numbers."""
    least, ours, theirs = (expected_loss(params, d) for d in (CHINCHILLA * params, tokens, LFM2_5_TOKENS))
    times = tokens / (CHINCHILLA * params)
    if times < 1:
        return (
            f"{_short(tokens)} tokens are {times:.2g} of the compute-optimal {_short(CHINCHILLA * params)} (Chinchilla,"
            " 20 a parameter): enough to check that training works, too few to judge the model."
        )
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
    ends = [f"{sums}   {total['hours']:.1f} h on {plan['gpus']} GPUs{costs}",
            f"the data stage holds {host / 1e9:,.0f} GB in memory; not counted: {plan['not_counted']}"]  # fmt: skip
    return "\n".join((*lines, *ends, *plan["too_large"], plan["budget"]))


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
