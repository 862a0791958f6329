"""``hilnas train report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trainer.pipeline.options import Root


def report(run_name: Annotated[str, typer.Argument(metavar="RUN")], root: Root = Path("var/train")) -> None:
    """Write the report of a run's finished stages as HTML and Markdown."""
    from trainer.evaluation.report import write_report  # brings torch

    typer.echo(str(write_report(root, run_name)))
