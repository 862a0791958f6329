"""``hilnas train result``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from contracts.http import RestClient
from trainer.pipeline.options import Root, Url


def result(
    run_name: Annotated[str, typer.Argument(metavar="RUN")],
    stage: Annotated[str | None, typer.Option(help="Any that left a model; the last such when absent.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to fill; results/RUN-STAGE under --root when absent.")
    ] = None,
    quantization: Annotated[str, typer.Option(help="Of the program: 8da4w, 8da8w or fp32.")] = "8da4w",
    target: Annotated[list[str] | None, typer.Option(help="host, or a phone's serial number or HOST:PORT.")] = None,
    gguf: Annotated[list[str] | None, typer.Option(help="F32, F16, Q8_0, Q4_0; F16 when absent.")] = None,
    budget_mb: Annotated[float | None, typer.Option(help="Of peak memory, in 10^6 bytes; more is noted.")] = None,
    study: Annotated[str | None, typer.Option(help="Whose memory budget it is, from the coordinator at --url.")] = None,
    against_random: Annotated[
        bool, typer.Option("--against-random", help="Time the architecture with random weights beside it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what result.json says.")] = False,
    url: Url = "http://127.0.0.1:8000",
    root: Root = Path("var/train"),
) -> None:
    """Write a stage's model for other tools: Hugging Face, GGUF, a measured program, a card."""
    from trainer.results.budget import of_study
    from trainer.results.records import run_record
    from trainer.results.write import CARD, Wanted, write_result

    run = run_record(root, run_name)
    subject = run.stage(stage)
    folder = out or root / "results" / f"{run_name}-{subject.name}"
    budget = None if budget_mb is None else budget_mb * 1e6
    if study is not None and budget is None:
        budget = of_study(RestClient(url).get(f"/studies/{study}")["budgets"])
    wanted = Wanted(quantization, tuple(target or ("host",)), tuple(gguf or ("F16",)), budget, against_random)
    show = lambda _, text: typer.echo(text, err=True)  # noqa: E731
    written = write_result(subject, run, folder, root / "cache", wanted, show)
    typer.echo(json.dumps(written) if as_json else f"{folder / CARD}: {len(written['files'])} files")
