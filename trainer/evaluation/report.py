"""One page per run: what each stage brought."""

from __future__ import annotations

from pathlib import Path

from foundation.files import write_atomically
from trainer.evaluation.report_filters import filters_of
from trainer.evaluation.report_html import page
from trainer.evaluation.report_markdown import markdown
from trainer.evaluation.report_rows import report_of

PAGE, TWIN = "report.html", "report.md"


def write_report(root: Path, run: str) -> Path:
    """``report.html`` and its twin ``report.md`` in the run's folder, from what is finished; returns the page."""
    report, filters, folder = report_of(root, run), filters_of(root, run), root / "runs" / run
    write_atomically(folder / TWIN, markdown(report, filters))
    write_atomically(folder / PAGE, page(report, filters))
    return folder / PAGE
