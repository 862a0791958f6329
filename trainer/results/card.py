"""A model card written from records alone: what no stage wrote down is not on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from search_space import cost
from search_space.arch import ArchConfig
from trainer.results.records import RunRecord, StageRecord

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
        _figures(run.stages),
        _data(run.stages),
        _devices(devices),
        f"## Files\n\n{_table(('file', 'bytes', ''), ([f['file'], _number(f['bytes']), f['note']] for f in files))}",
        _notes(run),
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
    rows = []
    for stage in stages:
        plain = {k: v for k, v in _flat(stage.metrics) if not isinstance(v, dict)}
        told = ", ".join(f"{key} {_number(value)}" for key, value in plain.items() if not key.startswith("sha256"))
        rows.append([f"`{stage.name}`", _settings(stage.settings), told, f"{stage.seconds:.0f}"])
    return _table(("stage", "settings", "result", "seconds"), rows)


def _figures(stages: Iterable[StageRecord]) -> str:
    """Everything that was measured with an interval."""
    rows = [
        [f"`{stage.name}`", name, _number(entry["value"]), _interval(entry), entry.get("n", ""), _verdict(entry)]
        for stage in stages for name, entry in stage.metrics.items()
        if _measured(entry)
    ]  # fmt: skip
    head = ("stage", "figure", "value", "95 % interval", "n", "")
    return f"## Figures\n\n{_table(head, rows)}" if rows else ""


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
    rows = [[name, f"{_number(e['value'])} {e['unit']}", _interval(e), e["n"]] for name, e in row["metrics"].items()]
    return "\n\n".join([*lines, _table(("metric", "median", "95 % interval", "samples"), rows)] if rows else lines)


def _notes(run: RunRecord) -> str:
    return "## Constants\n\n" + "\n".join(f"- {note}" for note in run.notes) if run.notes else ""


def _settings(settings: dict[str, Any]) -> str:
    """Scalars by name; an architecture is in its own table."""
    shown = [(k, v) for k, v in _flat(settings) if not k.startswith(("arch.", "stage", "version"))]
    return ", ".join(f"{key} {_number(value)}" for key, value in shown if value not in (None, ""))


def _flat(data: dict[str, Any], above: str = "") -> Iterable[tuple[str, Any]]:
    """Leaves by dotted name; what was measured with an interval is left to its own table."""
    for key, value in data.items():
        if isinstance(value, dict) and not _measured(value):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


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
