"""Loss by position as an inline drawing: a line per stage, a whisker per interval."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from trainer.evaluation.report_rows import Row, Section

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, LEGEND = 900, 280, 46, 12, 34, 150
# Okabe and Ito's palette, distinct under every common colour blindness
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8c7000")


def chart(section: Section, rows: Sequence[Row]) -> str:
    names = list(section.columns)
    metrics = [row.cells[name].metric for row in rows for name in names if name in row.cells]
    if len(names) < 2 or not metrics:
        return ""
    least, most = min(metric.low for metric in metrics), max(metric.high for metric in metrics)
    room = (most - least) or 1.0
    scale = HEIGHT - TOP - BOTTOM
    step = (WIDTH - LEFT - LEGEND) / (len(names) - 1 + 0.5)

    def y(value: float) -> float:
        return round(TOP + scale * (most - value) / room, 1)

    parts = [_grid(y(value), value) for value in (least, least + room / 2, most)]
    parts += [
        f'<text x="{LEFT + 10 + at * step:.1f}" y="{HEIGHT - 10}" text-anchor="middle">{escape(heading)}</text>'
        for at, heading in enumerate(section.columns.values())
    ]
    for index, row in enumerate(rows):
        colour, shift = COLOURS[index % len(COLOURS)], 10 + 3 * (index - len(rows) / 2)
        points = [
            (round(LEFT + shift + at * step, 1), row.cells[name].metric)
            for at, name in enumerate(names)
            if name in row.cells
        ]
        line = " ".join(f"{x},{y(metric.value)}" for x, metric in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        parts += [
            f'<line x1="{x}" x2="{x}" y1="{y(metric.low)}" y2="{y(metric.high)}" stroke="{colour}" opacity="0.5"/>'
            f'<circle cx="{x}" cy="{y(metric.value)}" r="2.6" fill="{colour}"/>'
            for x, metric in points
        ]
        top = TOP + 12 + 18 * index
        parts.append(
            f'<rect x="{WIDTH - LEGEND + 14}" y="{top - 9}" width="10" height="10" rx="2" fill="{colour}"/>'
            f'<text x="{WIDTH - LEGEND + 30}" y="{top}">{escape(row.subject)}</text>'
        )
    label = "Nats per token by position, one line per stage"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _grid(y: float, value: float) -> str:
    return (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - LEGEND}" y1="{y}" y2="{y}"/>'
        f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{value:.2f}</text>'
    )
