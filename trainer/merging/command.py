"""``hilnas train merge``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from foundation.errors import InvalidConfig


def merge(
    method: Annotated[str, typer.Argument(help="One that `hilnas plugins 'merging method'` lists.")],
    out: Annotated[Path, typer.Argument(help="Directory to make.")],
    models: Annotated[list[Path], typer.Argument(help="Hugging Face directories with one architecture.")],
    base: Annotated[Path | None, typer.Option(help="The model that all others came from.")] = None,
    weights: Annotated[str | None, typer.Option(help="One per model, e.g. 0.7,0.3.")] = None,
    scale: Annotated[float | None, typer.Option(help="Factor of the merged task vector.")] = None,
    density: Annotated[float | None, typer.Option(help="Share of each task vector that is kept.")] = None,
    epsilon: Annotated[float | None, typer.Option(help="DELLA: width of the range of drop probabilities.")] = None,
    t: Annotated[float | None, typer.Option(help="slerp: 0 is the first model, 1 the second.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of what DARE and DELLA drop.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record.")] = False,
) -> None:
    """Merge fine-tuned models into one; merge.json records how."""
    from trainer.merging.merge import merge as merge_directories  # brings torch
    from trainer.merging.methods import method_named

    given = {"scale": scale, "density": density, "epsilon": epsilon, "t": t, "seed": seed, "weights": numbers(weights)}
    chosen = method_named(method, **{name: value for name, value in given.items() if value is not None})
    record = merge_directories(chosen, models, out, base)
    typer.echo(json.dumps(record) if as_json else f"{out}: {record['num_tensors']} tensors merged by {method}")


def numbers(text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InvalidConfig(f"--weights {text!r} is no list of numbers; give one per model, e.g. 0.7,0.3") from None
