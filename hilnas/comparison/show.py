"""Sections of a comparison in a terminal and as Markdown."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from contracts.comparison import Comparison
from hilnas.comparison.report import Section, headline, sections


def show(result: Comparison, console: Console) -> None:
    console.print(f"[bold]{result.title}[/]", highlight=False)
    for line in headline(result):
        console.print(line, highlight=False)
    for section in sections(result):
        console.print()
        console.print(table_of(section))
        for note in section.notes:
            console.print(note, highlight=False, markup=False)


def table_of(section: Section) -> Table:
    table = Table(title=section.title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for index, column in enumerate(section.columns):
        table.add_column(column, justify="right" if index else "left", overflow="fold", header_style="dim")
    for row in section.rows:
        table.add_row(*row)
    return table


def markdown(result: Comparison) -> str:
    lines = [f"# {result.title}", "", *(f"{line}  " for line in headline(result)), ""]
    for section in sections(result):
        notes = [f"- {note}" for note in section.notes]
        lines += [f"## {section.title}", "", *_markdown_table(section), "", *notes, *([""] if notes else [])]
    return "\n".join([*lines, "Repeat it:", "", f"    {result.command}", ""])


def _markdown_table(section: Section) -> list[str]:
    """A bar within a cell would end it."""
    cells = [[text.replace("|", "\\|") for text in row] for row in (section.columns, *section.rows)]
    rule = ["---", *["---:"] * (len(section.columns) - 1)]
    return [f"| {' | '.join(row)} |" for row in (cells[0], rule, *cells[1:])]
