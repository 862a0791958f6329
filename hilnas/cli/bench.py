"""``hilnas bench``: the published benchmarks by name."""

from __future__ import annotations

import ast
import importlib.util
import pkgutil
import runpy
import sys
from pathlib import Path
from typing import Annotated

import typer

from foundation.errors import InvalidConfig

app = typer.Typer(help="Run the published benchmarks.")


def benchmark_names() -> list[str]:
    """Modules of the package ``benchmarks`` with a ``main``. They are parsed, because importing them takes seconds."""
    package = importlib.util.find_spec("benchmarks")
    folders = list(package.submodule_search_locations or []) if package else []
    return [
        module.name
        for folder in folders
        for module in pkgutil.iter_modules([folder])
        if _has_main(Path(folder) / f"{module.name}.py")
    ]


def _has_main(path: Path) -> bool:
    return any(isinstance(part, ast.FunctionDef) and part.name == "main" for part in ast.parse(path.read_text()).body)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(
    ctx: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help=f"One of: {', '.join(benchmark_names())}; all when absent.")
    ] = None,
) -> None:
    """Each benchmark prints a table and one line of JSON, and keeps its raw output under benchmarks/results/."""
    names = benchmark_names()
    if name is not None and name not in names:
        raise InvalidConfig(f"unknown benchmark {name!r}; known: {', '.join(names)}")
    for each in [name] if name else names:
        sys.argv = [f"benchmarks.{each}", *ctx.args]
        runpy.run_module(f"benchmarks.{each}", run_name="__main__")
