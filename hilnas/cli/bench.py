"""``hilnas bench``: the published benchmarks by name."""

from __future__ import annotations

import runpy
import sys
from typing import Annotated

import typer

from foundation.errors import InvalidConfig

app = typer.Typer(help="Run the published benchmarks.")
BENCHMARKS = ("search_throughput", "composition_fidelity", "operator_costs", "repeatability", "quality_separation",
              "phone_overhead", "phone_push", "merging", "distillation", "scaling_out", "recipe_tiny",
              "ablations", "recipe_full", "preference", "rl", "qat", "prefix_cache")  # fmt: skip


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(help=f"One of: {', '.join(BENCHMARKS)}; all when absent.")] = None,
) -> None:
    """Each prints a table and one line of JSON, and keeps its raw output under benchmarks/results/."""
    if name is not None and name not in BENCHMARKS:
        raise InvalidConfig(f"unknown benchmark {name!r}; known: {', '.join(BENCHMARKS)}")
    for each in [name] if name else BENCHMARKS:
        sys.argv = [f"benchmarks.{each}", *ctx.args]
        runpy.run_module(f"benchmarks.{each}", run_name="__main__")
