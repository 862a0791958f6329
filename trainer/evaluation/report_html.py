"""The report as one page without any other file."""

from __future__ import annotations

from html import escape
from typing import Any

from trainer.evaluation.report_chart import chart
from trainer.evaluation.report_filters import filters_html
from trainer.evaluation.report_markdown import MARKS, STAGES, caveat, change, described, interval, number, stages
from trainer.evaluation.report_rows import Cell, Report, Row, Section

STYLE = """
:root { --bg: #f5f6f8; --surface: #fff; --line: #dfe3e8; --text: #1a2027; --muted: #5b6673; --good: #00734f;
  --bad: #b3261e; --good-soft: #e6f5ee; --bad-soft: #fbe9e7; color-scheme: light; }
@media (prefers-color-scheme: dark) { :root { --bg: #0f1318; --surface: #171c23; --line: #2c3541; --text: #e7ebf0;
  --muted: #9aa7b5; --good: #4fd1a1; --bad: #ff8a80; --good-soft: #123528; --bad-soft: #401d1b; color-scheme: dark; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 32px 28px 48px; max-width: 1500px; background: var(--bg); color: var(--text);
  font: 14px/1.45 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; font-variant-numeric: tabular-nums; }
h1 { margin: 0; font-size: 22px; } h2 { margin: 0; font-size: 15px; } p { margin: 3px 0 0; color: var(--muted); }
section { margin-top: 20px; padding: 16px 18px; background: var(--surface); border: 1px solid var(--line);
  border-radius: 10px; }
.wide { margin-top: 10px; overflow-x: auto; }
table { border-collapse: collapse; } table.all { width: 100%; }
th, td { padding: 7px 12px 7px 0; text-align: left; vertical-align: top; border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--muted); font-weight: 560; font-size: 12px; vertical-align: bottom; }
thead th.num { white-space: normal; max-width: 120px; }
tbody th { position: sticky; left: 0; background: var(--surface); font-weight: 560; white-space: nowrap; }
th small { display: block; font-weight: 400; }
td small, th small { color: var(--muted); } .num { white-space: nowrap; padding: 7px 8px; }
.num b { display: block; font-weight: 620; } .num small { display: block; font-size: 11.5px; }
.num.better { background: var(--good-soft); } .num.better .change { color: var(--good); }
.num.worse { background: var(--bad-soft); } .num.worse .change { color: var(--bad); }
svg { display: block; margin-top: 12px; max-width: 100%; height: auto; font: 12px system-ui, sans-serif; }
svg text { fill: var(--muted); } svg .grid { stroke: var(--line); }
"""


def page(report: Report, filters: list[dict[str, Any]]) -> str:
    title = f"{escape(report.run)}: evaluation"
    body = [f"<header><h1>{title}</h1><p>{escape(described(report))}</p></header>", _stages(report)]
    body += [_section(section, report.rows) for section in report.sections]
    body.append(filters_html(filters))
    if report.rows:
        body.append(f"<section><h2>How to read this</h2><p>{escape(caveat(report))}</p></section>")
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<title>{title}</title><style>{STYLE}</style></head>\n'
        f"<body>\n{chr(10).join(body)}\n</body></html>\n"
    )


def _stages(report: Report) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in STAGES)
    rows = "".join(
        f"<tr><th>{escape(name)}</th>{''.join(f'<td>{escape(text)}</td>' for text in rest)}</tr>"
        for name, *rest in stages(report)
    )
    table = f'<table class="all"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return f'<section><h2>Stages</h2><div class="wide">{table}</div></section>'


def _section(section: Section, rows: tuple[Row, ...]) -> str:
    shown = [row for row in rows if any(name in row.cells for name in section.columns)]
    head = "".join(f'<th class="num">{escape(text)}</th>' for text in section.columns.values())
    body = "".join(
        f"<tr><th>{escape(row.subject)}{_before(row)}</th>"
        f"{''.join(_cell(row.cells.get(name)) for name in section.columns)}</tr>"
        for row in shown
    )
    table = f"<table><thead><tr><th>stage</th>{head}</tr></thead><tbody>{body}</tbody></table>"
    drawn = chart(section, shown) if section.title == "Loss by position" else ""
    return (
        f"<section><h2>{escape(section.title)}</h2><p>{escape(section.about)}</p>{drawn}"
        f'<div class="wide">{table}</div></section>'
    )


def _before(row: Row) -> str:
    return f"<small>against {escape(row.before)}</small>" if row.before else ""


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return '<td class="num"></td>'
    metric = cell.metric
    hint = f"n = {metric.n}" + (f"; {metric.note}" if metric.note else "")
    changed = f'<small class="change">{escape(change(cell))}{MARKS[cell.judged]}</small>' if cell.change else ""
    return (
        f'<td class="num {cell.judged}" title="{escape(hint)}"><b>{escape(number(metric.name, metric.value))}</b>'
        f"<small>{escape(interval(cell))}</small>{changed}</td>"
    )
