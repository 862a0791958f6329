"""What the filters of a run's examples dropped, for both forms of the report."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

from trainer.pipeline.chain import RECIPE

REPORT = "report.json"  # what stage `sft_data` leaves
HEAD = ("filter", "seen", "dropped", "why, with an example")
LONGEST = 120


def filters_of(root: Path, run: str) -> list[dict[str, Any]]:
    """The reports of every stage of the run that filtered, in order; nothing when none has."""
    folders = json.loads((root / "runs" / run / RECIPE).read_text())["folders"].values()
    paths = [root / "stages" / folder / REPORT for folder in folders]
    return [entry for path in paths if path.exists() for entry in json.loads(path.read_text())]


def filters_markdown(filters: list[dict[str, Any]]) -> list[str]:
    if not filters:
        return []
    rows = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in _rows(filters)]
    return ["", "## Filters", "", f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|", *rows]


def filters_html(filters: list[dict[str, Any]]) -> str:
    if not filters:
        return ""
    head = "".join(f"<th>{text}</th>" for text in HEAD)
    body = "".join(
        f"<tr><th>{escape(first)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in rest)}</tr>"
        for first, *rest in _rows(filters)
    )
    table = f'<table class="all"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    about = "What each filter took from the examples for fine-tuning; it sees what those above it left."
    return f'<section><h2>Filters</h2><p>{about}</p><div class="wide">{table}</div></section>'


def _rows(filters: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [(f["filter"], f"{f['seen']:,}", f"{f['dropped']:,}", _why(f)) for f in filters]


def _why(entry: dict[str, Any]) -> str:
    reasons = ", ".join(f"{reason} ({count:,})" for reason, count in entry["reasons"].items())
    if not entry["shown"]:
        return reasons
    first = entry["shown"][0]
    example = " ".join(f"{first['prompt']} → {first['answer']}".split())
    return f"{reasons}; “{example[:LONGEST]}{'…' if len(example) > LONGEST else ''}”"
