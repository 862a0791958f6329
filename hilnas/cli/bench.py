"""``hilnas bench``: the published benchmarks by name."""

from __future__ import annotations

import ast
import importlib.util
import pkgutil
import runpy
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Annotated

import typer

from foundation.errors import InvalidConfig

app = typer.Typer(help="Run the published benchmarks.")


def benchmark_names() -> list[str]:
    """Modules of the package ``benchmarks`` with a ``main``, each after those that its ``AFTER`` names."""
    package = importlib.util.find_spec("benchmarks")
    folders = list(package.submodule_search_locations or []) if package else []
    names = [(Path(folder), module.name) for folder in folders for module in pkgutil.iter_modules([folder])]
    after = {name: found for folder, name in names if (found := _after(folder / f"{name}.py")) is not None}
    return list(TopologicalSorter(after).static_order())


def _after(path: Path) -> tuple[str, ...] | None:
    """None where there is no ``main``. Modules are read, not imported: that would take seconds."""
    parts = ast.parse(path.read_text()).body
    if not any(isinstance(part, ast.FunctionDef) and part.name == "main" for part in parts):
        return None
    for part in parts:
        if isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Name) and part.targets[0].id == "AFTER":
            return tuple(ast.literal_eval(part.value))
    return ()


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
