"""The report as Markdown, and how numbers are written in both forms."""

from __future__ import annotations

from typing import Any

from trainer.evaluation.files import PREFIX
from trainer.evaluation.report_filters import filters_markdown
from trainer.evaluation.report_rows import Cell, Report, Row, Section

STAGES = ("stage", "state", "seconds", "to evaluate", "against the stage before")
SHARES = ("task/", "bfcl/", "ifbench", "lm_eval/")
MARKS = {"better": " ▲", "worse": " ▼", "": ""}


def markdown(report: Report, filters: list[dict[str, Any]]) -> str:
    lines = [f"# {report.run}", "", described(report), ""]
    lines += [f"| {' | '.join(STAGES)} |", "|---" * len(STAGES) + "|"]
    lines += [f"| {' | '.join(cells)} |" for cells in stages(report)]
    for section in report.sections:
        lines += ["", f"## {section.title}", "", section.about, "", *_table(section, report.rows)]
    lines += filters_markdown(filters)
    return "\n".join([*lines, "", *([caveat(report)] if report.rows else []), ""])


def stages(report: Report) -> list[tuple[str, ...]]:
    """A line per stage under ``STAGES``; evaluations stand with what they evaluate."""
    changed = {row.subject: summary(row) for row in report.rows}
    evaluations = {f"{PREFIX}{subject}" for subject in changed}
    return [
        (name, entry["state"], _seconds(entry), _seconds(report.stages.get(PREFIX + name, {})), changed.get(name, ""))
        for name, entry in report.stages.items()
        if name not in evaluations
    ]


def _seconds(entry: dict[str, Any]) -> str:
    return f"{entry['seconds']:,.0f}" if "seconds" in entry else ""


def described(report: Report) -> str:
    commit = f", commit {report.commit[:12]}" if report.commit else ""
    none = "" if report.rows else " No stage has been evaluated yet."
    return f"Recipe {report.recipe}{commit}.{none}"


def caveat(report: Report) -> str:
    return (
        "Brackets are 95 % intervals. ▲ better and ▼ worse mark differences whose own interval leaves out 0: over equal"
        " rows by paired bootstrap, between shares by Newcombe's method, in points. Of "
        f"{report.num_compared} comparisons about {report.num_compared / 20:.0f} would be marked by chance alone."
    )


def summary(row: Row) -> str:
    """Which metrics certainly changed, by name while they are few."""
    if row.before is None:
        return ""
    changes = []
    for judged in ("better", "worse"):
        names = [name for name, cell in row.cells.items() if cell.judged == judged]
        if names:
            which = ", ".join(names) if len(names) < 4 else f"in {len(names)} metrics"
            changes.append(f"{judged}{MARKS[judged]} {which}")
    compared = sum(cell.change is not None for cell in row.cells.values())
    return f"{'; '.join(changes) or 'no certain change'} (of {compared}, against {row.before})"


def number(name: str, value: float, signed: bool = False) -> str:
    """Shares in per cent, all else with three decimals or digits."""
    sign = "+" if signed else ""
    if name.startswith(SHARES) or name.endswith("/accuracy"):
        text = f"{100 * value:{sign}.1f} %"
    elif abs(value) >= 1000:
        text = f"{value:{sign},.0f}"
    elif abs(value) >= 100:
        text = f"{value:{sign}.1f}"
    else:
        text = f"{value:{sign}.3f}"
    return text.replace("-", "−")


def change(cell: Cell) -> str:
    if cell.change is None:
        return ""
    name, found = cell.metric.name, cell.change
    value, low, high = (number(name, each, True).removesuffix(" %") for each in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]"


def interval(cell: Cell) -> str:
    low, high = (number(cell.metric.name, value) for value in (cell.metric.low, cell.metric.high))
    return f"{low.removesuffix(' %')} – {high}"


def _table(section: Section, rows: tuple[Row, ...]) -> list[str]:
    shown = [row for row in rows if any(name in row.cells for name in section.columns)]
    lines = [f"| stage | {' | '.join(section.columns.values())} |", "|---" * (len(section.columns) + 1) + "|"]
    return lines + [
        f"| {row.subject} | {' | '.join(_cell(row.cells.get(name)) for name in section.columns)} |" for row in shown
    ]


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return ""
    changed = f", {change(cell)}{MARKS[cell.judged]}" if cell.change else ""
    return f"{number(cell.metric.name, cell.metric.value)} [{interval(cell)}]{changed}"
