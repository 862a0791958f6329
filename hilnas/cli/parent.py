"""``hilnas parent``: models that exist, as the start of a search."""

from __future__ import annotations

import json
from itertools import count
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from hilnas.cli.progress import LOG, kept_folder, working
from hilnas.cli.show import strip_of, widths_of
from search_space import cost
from search_space.parents import parent_arch, parent_folder, parent_names, parent_record

if TYPE_CHECKING:
    from nas.parent.alternatives import Alternative
    from nas.parent.learn import LearntBlock

app = typer.Typer(help="Import and list models that a search starts from.", no_args_is_help=True)
console = Console()
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@app.command("import")
def import_(
    name: Annotated[str, typer.Argument(help="Name of the parent, e.g. smollm2.")],
    directory: Annotated[
        str, typer.Argument(help="Hugging Face directory, smollm2-135m (a package), or tiny-2m (ships with hilnas).")
    ],
    text: Annotated[
        list[str] | None,
        typer.Option(help="Source of calibration and held-out text; default python:docs, or what ships."),
    ] = None,
    no_text: Annotated[bool, typer.Option("--no-text", help="Import the model alone.")] = False,
    max_tokens: Annotated[int, typer.Option(min=1000, help="Of text, in the parent's tokens.")] = 1_500_000,
    as_json: AsJson = False,
) -> None:
    """Import a Llama, Qwen3 or Lfm2 model with its weights; whatever would be lost is refused by name."""
    with working(kept_folder() / LOG) as say:
        from hilnas.parents import import_parent

        say(f"importing {directory} as {name}")
        texts = () if no_text else tuple(text) if text else None
        import_parent(name, directory, texts, max_tokens)
    show(name, as_json)


@app.command()
def learn(
    name: Annotated[str, typer.Argument(help="Name of a parent.")],
    windows: Annotated[list[int] | None, typer.Option("--window", help="Of attention, in tokens.")] = None,
    kernels: Annotated[list[int] | None, typer.Option("--kernel", help="Of short convolutions, in taps.")] = None,
    shares: Annotated[list[float] | None, typer.Option("--share", help="Of a feed-forward's width.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of each block.")] = 150,
    rows: Annotated[int, typer.Option(min=1, help="Of text a step.")] = 4,
    calibration_rows: Annotated[int, typer.Option(min=4, help="Of text in all.")] = 50,
    calibration_length: Annotated[int, typer.Option(min=32, help="Of a row, in tokens.")] = 512,
    processes: Annotated[int, typer.Option(min=1, max=256, help="That learn at once.")] = 2,
) -> None:
    """Learn the blocks of a space around a parent ahead of its searches; started again it goes on.

    A study finds them where its space and its estimator have the same settings.
    """
    parent_folder(name)
    from nas.parent.learn import LearnSettings
    from nas.parent.workers import all_alternatives, learn_blocks
    from search_space.space.around import KERNELS, SHARES, WINDOWS, around

    chosen = (windows or WINDOWS, kernels or KERNELS, shares or SHARES)
    around(name, *chosen)  # what cannot work is said before hours of work
    wanted = all_alternatives(name, *chosen)
    done = count()

    def told(alternative: Alternative, block: LearntBlock) -> None:
        console.print(
            f"{next(done) + 1} of {len(wanted)}: layer {alternative.layer} {block.label}, error {block.error:.3f}"
            f" (inherited {block.start_error:.3f}), {block.seconds:.0f} s",
            highlight=False,
        )

    settings = LearnSettings(steps=steps, rows=rows)
    learn_blocks(name, wanted, settings, (calibration_length, calibration_rows), processes, told)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List imported parents."""
    records = [parent_record(name) for name in parent_names()]
    if as_json:
        typer.echo(json.dumps(records))
        return
    if not records:
        console.print("no parents yet; `hilnas parent import mine DIR` reads a Hugging Face directory of a Llama, Qwen3"
                      " or Lfm2 model, `hilnas parent import tiny tiny-2m` one that ships with hilnas")  # fmt: skip
        return
    table = Table(title="parents", title_justify="left", header_style="bold")
    for column in ("name", "family", "parameters", "layers", "origin"):
        table.add_column(column)
    for record in records:
        arch = parent_arch(record["name"])
        million = f"{cost.params(arch) / 1e6:.1f} M"
        table.add_row(record["name"], record["family"], million, strip_of(arch.to_dict()), record["origin"])
    console.print(table)


@app.command()
def show(name: Annotated[str, typer.Argument(help="Name of a parent.")], as_json: AsJson = False) -> None:
    """Show a parent's architecture, text and learnt blocks."""
    record, arch = parent_record(name), parent_arch(name)
    blocks = len(list((parent_folder(name) / "blocks").glob("*.json")))
    shown = {**record, "params": cost.params(arch), "blocks": blocks, "label": arch.label}
    if as_json:
        typer.echo(json.dumps({**shown, "arch": arch.to_dict()}))
        return
    console.print(strip_of(arch.to_dict()), widths_of(arch.to_dict()))
    for key, value in shown.items():
        console.print(f"{key}: {value}", highlight=False)
