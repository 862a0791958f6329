"""What a report shows: evaluated stages as rows, metrics as columns in sections, differences to the stage before."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.measurement import Verdict
from trainer.evaluation.files import KIND, PREFIX, rows_of
from trainer.evaluation.values import Difference, Metric, difference
from trainer.pipeline.chain import RECIPE
from trainer.pipeline.run_folder import state_of

RETRIEVED = {
    "gain_nats": "A number is hidden at a depth of the context: nats that its sentence gains over one with another key"
    " and number.",
    "accuracy": "The share of hidden numbers that the model says whole.",
}


@dataclass(frozen=True)
class Cell:
    metric: Metric
    change: Difference | None

    @property
    def judged(self) -> str:
        """``better``, ``worse`` or nothing: only beyond the interval of the difference."""
        if self.change is None or not self.change.certain:
            return ""
        return "better" if (self.change.value < 0) == (self.metric.better == "low") else "worse"


@dataclass(frozen=True)
class Row:
    """``before`` is the evaluated stage that this one came from."""

    subject: str
    before: str | None
    cells: dict[str, Cell]


@dataclass(frozen=True)
class Section:
    title: str
    about: str
    columns: dict[str, str]  # metric -> heading


@dataclass(frozen=True)
class Report:
    """``stages`` is every stage of the chain with its state."""

    run: str
    recipe: str
    commit: str | None
    stages: dict[str, dict[str, Any]]
    rows: tuple[Row, ...]
    sections: tuple[Section, ...]

    @property
    def num_compared(self) -> int:
        return sum(cell.change is not None for row in self.rows for cell in row.cells.values())


def report_of(root: Path, run: str) -> Report:
    """Raises InvalidConfig for a run that is not there. A run without evaluations gives a report without rows."""
    state = state_of(root, run)
    recipe = json.loads((root / "runs" / run / RECIPE).read_text())
    stages: dict[str, dict[str, Any]] = state["stages"]
    done = {name: entry for name, entry in stages.items() if entry["state"] == "done" and entry["stage"] == KIND}
    found = {
        name.removeprefix(PREFIX): _metrics(entry["metrics"], root / "stages" / recipe["folders"][name])
        for name, entry in done.items()
    }
    spoiled = {
        (name.removeprefix(PREFIX), metric)
        for name, entry in done.items()
        for metric, figures in entry["metrics"].items()
        if figures.get("verdict", Verdict.VALID) != Verdict.VALID
    }
    rows = tuple(_row(subject, _before(subject, stages, list(found)), found, spoiled) for subject in found)
    names = list(dict.fromkeys(name for metrics in found.values() for name in metrics))
    return Report(run, recipe["recipe"], recipe.get("commit"), stages, rows, tuple(sections(names)))


def sections(names: list[str]) -> list[Section]:
    """Metrics by what they are about; a section without metrics is left out."""
    rest = [name for name in names if not name.startswith(("loss_by_position/", "retrieval/", "device/"))]
    by_position = [name for name in names if name.startswith("loss_by_position/")]
    device = [name for name in names if name.startswith("device/")]
    made = [
        Section("Text and tasks", "Bits per byte of held-out text; share of test examples that their verifier accepts.",
                {name: _spaced(name.removeprefix("task/")) for name in rest}),
        Section("Loss by position", "Nats per token by how many tokens came before it.",
                {name: name.split("/")[1].replace("-", "–") for name in by_position}),
        *(_retrieval(context, kind, names) for context in _contexts(names) for kind in RETRIEVED),
        Section("On this device", "The exported program, measured here.",
                {name: _spaced(name.removeprefix("device/")) for name in device}),
    ]  # fmt: skip
    return [section for section in made if section.columns]


def _spaced(name: str) -> str:
    """So that a heading can break."""
    return name.replace("_", " ").replace("/", " ").replace(":", ": ").replace("@", " @ ")


def _retrieval(context: int, kind: str, names: list[str]) -> Section:
    mine = {
        name.split("/")[2]: name for name in names if name.startswith(f"retrieval/{context}/") and name.endswith(kind)
    }
    columns = {mine[depth]: f"depth {float(depth):.0%}" for depth in sorted(mine, key=float)}
    return Section(f"Retrieval from {context:,} tokens: {kind.split('_')[0]}", RETRIEVED[kind], columns)


def _contexts(names: list[str]) -> list[int]:
    return sorted({int(name.split("/")[1]) for name in names if name.startswith("retrieval/")})


def _row(subject: str, before: str | None, found: dict[str, dict[str, Metric]], spoiled: set[tuple[str, str]]) -> Row:
    """Spoiled measurements are shown and not compared."""
    past = found[before] if before else {}
    comparable = [name for name in past if not {(subject, name), (str(before), name)} & spoiled]
    cells = {
        name: Cell(metric, difference(past[name], metric) if name in comparable else None)
        for name, metric in found[subject].items()
    }
    return Row(subject, before, cells)


def _before(subject: str, stages: dict[str, dict[str, Any]], evaluated: list[str]) -> str | None:
    """The nearest evaluated stage that the subject's weights came from; the row above where that is not known."""
    at, seen = subject, {subject}
    while (origin := stages.get(at, {}).get("start") or stages.get(at, {}).get("base")) and origin not in seen:
        if origin in evaluated:
            return str(origin)
        at = origin
        seen.add(at)
    index = evaluated.index(subject)
    return evaluated[index - 1] if index else None


def _metrics(entries: dict[str, dict[str, Any]], folder: Path) -> dict[str, Metric]:
    kept = rows_of(folder)
    return {name: _metric(name, entry, kept.get(name, {})) for name, entry in entries.items()}


def _metric(name: str, entry: dict[str, Any], kept: dict[str, list[float]]) -> Metric:
    value, low, high = (float(entry[key]) for key in ("value", "low", "high"))
    note = "; ".join(text for text in (entry.get("note", ""), entry.get("verdict", "")) if text)
    rows, weights = tuple(kept.get("rows", ())), tuple(kept.get("weights", ()))
    return Metric(name, value, low, high, int(entry["n"]), entry["better"], note, rows, weights)
