"""``hilnas space``: list, look at and check search spaces, by name or from a file."""

from __future__ import annotations

import json
import random
from functools import partial
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from foundation.registry import title_of
from hilnas.cli.show import strip_of
from search_space.arch import ArchConfig
from search_space.cost import closed_form, embedding_bytes, head_linear, linear_bytes
from search_space.space import SPACES, SearchSpace, space_of
from search_space.space.counting import cover, extreme

app = typer.Typer(help="List, look at and check search spaces.", no_args_is_help=True)
console = Console()
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Which = Annotated[str, typer.Argument(help="A search space by name, or a YAML or JSON file.")]
COSTS = {"params": None, "weight_bytes": None, "memory_bytes": 4096, "decode_bytes": 4096}
# One worker on an AMD EPYC without AVX-512, XNNPACK, 8da4w: 7 blocks of 1.6 MiB took 42 s, 12 of 116 MiB 74 s.
SECONDS_TO_START, SECONDS_PER_BLOCK, SECONDS_PER_GIB = 8.0, 4.9, 65.0


@app.command("list")
def list_spaces(as_json: AsJson = False) -> None:
    """All spaces by name."""
    if as_json:
        typer.echo(json.dumps({name: title_of(part) for name, part in SPACES.items()}))
        return
    table = Table(show_header=False, box=None)
    for name, part in SPACES.items():
        table.add_row(f"[cyan]{name}[/]", escape(title_of(part)))
    console.print(table)


@app.command()
def show(
    name: Which,
    quantization: Annotated[str, typer.Option(help="For bytes and blocks.")] = "8da4w",
    examples: Annotated[int, typer.Option(min=0, max=50, help="Random candidates to show.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Size, blocks to compile, ranges of closed-form costs, and some candidates."""
    found = space_of(name)
    facts = facts_of(found, quantization, examples)
    if as_json:
        typer.echo(json.dumps(facts))
        return
    console.print(f"[bold]{found.name}[/]: {number(facts['candidates'])} candidates of {depth_of(found)} layers")
    blocks = facts["blocks"]
    console.print(f"{blocks['count']} blocks to compile, {blocks['bytes'] / 2**20:,.0f} MiB, about"
                  f" {blocks['minutes']:.1f} minutes once with one worker")  # fmt: skip
    for metric, (low, high) in facts["ranges"].items():
        console.print(f"  {metric}: {low:,.0f} to {high:,.0f}")
    for arch in facts["examples"]:
        console.print("  ", strip_of(arch))


@app.command()
def check(file: Which) -> None:
    """Say whether a file is a search space, and how large; else what is wrong."""
    found = space_of(file)
    console.print(f"{found.name} is a search space of {number(found.num_candidates)} candidates")


def facts_of(found: SearchSpace, quantization: str, examples: int) -> dict[str, Any]:
    rng = random.Random(0)
    return {
        "name": found.name, "candidates": found.num_candidates, "parameters": len(found.parameters()),
        "blocks": blocks_of_space(found, quantization),
        "ranges": {
            name if context is None else f"{name}@{context}": [
                extreme(found, partial(_cost, name, context, quantization), end) for end in ("min", "max")
            ]
            for name, context in COSTS.items()
        },
        "examples": [found.decode(found.sample(rng)).to_dict() for _ in range(examples)],
    }  # fmt: skip


def blocks_of_space(found: SearchSpace, quantization: str) -> dict[str, float]:
    """Distinct blocks of all candidates, their bytes as deployed, and the minutes that one worker needs for them."""
    sizes: dict[object, int] = {}
    for arch in cover(found):
        ends = embedding_bytes(arch, quantization) + linear_bytes(head_linear(arch), quantization)
        sizes["embedding and head", arch.d_model, arch.vocab_size] = ends
        for part in (part for layer in arch.layers for part in (layer.mixer, layer.ffn)):
            if part is None or getattr(part, "identity", False):
                continue
            sizes[arch.d_model, part] = sum(linear_bytes(one, quantization) for one in part.linears(arch.d_model))
    num_bytes = sum(sizes.values())
    count = len(sizes) + sum(isinstance(key, tuple) and key[0] == "embedding and head" for key in sizes)
    minutes = (SECONDS_TO_START + count * SECONDS_PER_BLOCK + num_bytes / 2**30 * SECONDS_PER_GIB) / 60
    return {"count": count, "bytes": num_bytes, "minutes": minutes}


def _cost(name: str, context: int | None, quantization: str, arch: ArchConfig) -> float:
    return closed_form(arch, name, context, quantization, "fp32")


def number(count: int) -> str:
    return f"{count:,}" if count < 10**9 else f"{count:.1e}"


def depth_of(found: SearchSpace) -> str:
    depths = found.shared.get("depth", (found.depth,))
    return str(depths[0]) if len(depths) == 1 else f"{min(depths)} to {max(depths)}"


