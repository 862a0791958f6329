"""``hilnas plugins``: all registered parts by kind, and where they come from."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from foundation.errors import InvalidConfig
from foundation.registry import Registry, title_of
from hilnas.cli.progress import LOG, kept_folder, working
from hilnas.plugins import all_registries

app = typer.Typer(help="List everything that plugins can add to.")
console = Console()
OURS = ("search_space", "nas", "device_agents", "trainer", "server", "contracts", "foundation")


@app.command()
def plugins(
    kind: Annotated[str | None, typer.Argument(help="One kind of part, e.g. mixer; all when absent.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """List mixers, spaces, samplers, recipes and all other parts, including those of plugins."""
    with working(kept_folder() / LOG):
        registries = all_registries()
    if kind is not None and kind not in registries:
        raise InvalidConfig(f"unknown kind of part {kind!r}; known: {', '.join(registries)}")
    shown = {noun: registry for noun, registry in registries.items() if kind in (None, noun)}
    if as_json:
        typer.echo(json.dumps({noun: {name: title_of(part) for name, part in r.items()} for noun, r in shown.items()}))
        return
    for registry in shown.values():
        console.print(table_of(registry))


def table_of(registry: Registry[object]) -> Table:
    table = Table(title=registry.plural, title_justify="left", title_style="bold", show_header=False, box=None)
    table.add_column(no_wrap=True, style="cyan", min_width=18)
    table.add_column(overflow="fold")
    table.add_column(style="dim", no_wrap=True)
    for name, part in registry.items():
        table.add_row(name, escape(title_of(part)), origin(part))
    return table


def origin(part: object) -> str:
    """Empty for our own parts, else the module that registered it."""
    module = str(getattr(part, "__module__", "") or type(part).__module__)
    if module.split(".")[0] in OURS:
        return ""
    return "plugin" if module.startswith("hilnas_plugin_") else module
