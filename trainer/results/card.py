"""A model card written from records alone: what no stage wrote down is not on it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from search_space import cost
from search_space.arch import ArchConfig
from trainer.results import budget, random_twin
from trainer.results.records import RunRecord, StageRecord

FIGURES_SHOWN = 5
HEAD = """---
library_name: transformers
pipeline_tag: text-generation
tags: [hilnas]
---
"""


def write_card(
    path: Path,
    run: RunRecord,
    subject: StageRecord,
    arch: ArchConfig,
    files: Sequence[dict[str, Any]],
    devices: Sequence[dict[str, Any]],
) -> None:
    """``files`` are rows of {file, bytes, note}, ``devices`` rows of trainer.results.program."""
    parts = [
        f"{HEAD}\n# {run.run}, stage {subject.name}",
        _origin(run, subject),
        f"## Architecture\n\n{_architecture(arch)}",
        f"## Stages\n\n{_stages(run.stages)}",
        _figures(run.stages, subject),
        _data(run.stages),
        _devices(devices),
        f"## Files\n\n{_table(('file', 'bytes', ''), ([f['file'], _number(f['bytes']), f['note']] for f in files))}",
        _notes(run),
        _all_settings(run.stages),
    ]
    path.write_text("\n\n".join(part for part in parts if part) + "\n")


def _origin(run: RunRecord, subject: StageRecord) -> str:
    commit = f", commit `{run.commit}`" if run.commit else ""
    teachers = {str(s.settings[key]) for s in run.stages for key in ("teacher_identity",) if key in s.settings}
    taught = f" Teacher: {', '.join(sorted(teachers))}." if teachers else ""
    return (
        f"What stage `{subject.name}` of recipe `{run.recipe}` left (`{subject.folder.name}`{commit}).{taught} Written "
        "from the run's records; what was not measured is not here."
    )


def _architecture(arch: ArchConfig) -> str:
    rows = [
        ["parameters", f"{cost.params(arch):,}"],
        ["outside embedding and head", f"{cost.effective_params(arch):,}"],
        ["embedding share", f"{cost.embedding_share(arch):.1%}"],
        ["layout", arch.label],
        ["width, vocabulary", f"{arch.d_model}, {arch.vocab_size:,}"],
    ]
    return _table(("", ""), rows)


def _stages(stages: Iterable[StageRecord]) -> str:
    """What each did, in a line; evaluations have their own table."""
    rows = []
    for stage in stages:
        if stage.settings.get("stage") == "evaluate":
            continue
        plain = {key: _number(value) for key, value in stage.metrics.items() if isinstance(value, (int, float, str))}
        figures = ", ".join(f"{key} {value}" for key, value in list(plain.items())[:FIGURES_SHOWN])
        rows.append([f"`{stage.name}`", _trained(stage.settings), figures, f"{stage.seconds:.0f}"])
    return _table(("stage", "trained", "result", "seconds"), rows)


def _trained(settings: dict[str, Any]) -> str:
    loop = settings.get("loop")
    if not loop:
        return ""
    if "sampling" in settings:  # rounds of reinforcement learning have no rows
        groups, size = (settings["sampling"][key] for key in ("groups", "size"))
        return f"{loop['steps']} rounds of {groups} groups of {size}, learning rate {loop['learning_rate']:g}"
    if "beta" in settings:
        return f"{loop['steps']} steps of {loop['batch']} pairs, learning rate {loop['learning_rate']:g}"
    return (
        f"{loop['steps']} steps of {loop['batch']} x {loop['length']:,} tokens, learning rate {loop['learning_rate']:g}"
    )


def _figures(stages: Sequence[StageRecord], subject: StageRecord) -> str:
    """The subject's own evaluation, or that of the nearest stage before it."""
    evaluated = [stage for stage in stages if any(_measured(entry) for entry in stage.metrics.values())]
    own = [stage for stage in evaluated if stage.name in (subject.name, f"evaluate_{subject.name}")]
    if not evaluated:
        return ""
    chosen = (own or evaluated)[-1]
    rows = [
        [name, _number(entry["value"]), _interval(entry), entry.get("n", ""), _verdict(entry)]
        for name, entry in chosen.metrics.items() if _measured(entry)
    ]  # fmt: skip
    head = ("figure", "value", "95 % interval", "n", "")
    return f"## Figures\n\nFrom `{chosen.name}`.\n\n{_table(head, rows)}"


def _all_settings(stages: Iterable[StageRecord]) -> str:
    text = json.dumps({stage.name: stage.settings for stage in stages}, indent=1)
    return f"<details><summary>Settings of every stage</summary>\n\n```json\n{text}\n```\n</details>"


def _data(stages: Iterable[StageRecord]) -> str:
    """The data stages' own cards, with every source's licence."""
    cards = [path.read_text().split("\n", 1)[1].strip() for s in stages if (path := s.folder / "DATA_CARD.md").exists()]
    return "## Data\n\n" + "\n\n".join(cards) if cards else ""


def _devices(devices: Iterable[dict[str, Any]]) -> str:
    return "\n\n".join(_device(row) for row in devices)


def _device(row: dict[str, Any]) -> str:
    device, parity = row["device"], row.get("parity") or {}
    said = row["verdict"] + (f" ({row['reason']})" if row["reason"] else "")
    lines = [
        f"## On {device['model']}",
        f"{row['quantization']}, {row['threads']} threads of {device['cores']} cores, {device['os']}, protocol"
        f" `{row['protocol']}`, {row['cold_repeats']} cold runs, program {row['bytes']:,} bytes. Verdict: {said}.",
    ]
    if parity:
        lines.append(f"Against eager torch before timing: {parity['sqnr_db']:.1f} dB.")
    if "budget" in row:
        lines.append(budget.sentence(row["budget"]))
    rows = [[name, f"{_number(e['value'])} {e['unit']}", _interval(e), e["n"]] for name, e in row["metrics"].items()]
    if rows:
        lines.append(_table(("metric", "median", "95 % interval", "samples"), rows))
    return "\n\n".join([*lines, *(_against_random(row["random"]) if "random" in row else ())])


def _against_random(twin: dict[str, Any]) -> list[str]:
    ratios = twin["ratios"]
    rows = [
        [
            name, f"{e['ratio']:.3f}", f"{e['low']:.3f} to {e['high']:.3f}", f"{e['noise']:.1%}",
            {True: "yes", False: "no", None: "not known"}[e["equal"]],
        ]
        for name, e in ratios.items()
    ]  # fmt: skip
    table = _table(("metric", "trained / random", "95 % interval", "between cold runs", "equal within noise"), rows)
    return [random_twin.sentence(ratios), *([table] if rows else [])]


def _notes(run: RunRecord) -> str:
    return "## Constants\n\n" + "\n".join(f"- {note}" for note in run.notes) if run.notes else ""


def _measured(entry: Any) -> bool:
    return isinstance(entry, dict) and {"value", "low", "high"} <= entry.keys()


def _verdict(entry: dict[str, Any]) -> str:
    return ", ".join(str(entry[key]) for key in ("verdict", "note") if entry.get(key))


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.4g}"


def _interval(entry: dict[str, Any]) -> str:
    """Empty for what has none: a maximum, a percentile."""
    return "" if entry["low"] == entry["high"] else f"{_number(entry['low'])} to {_number(entry['high'])}"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
