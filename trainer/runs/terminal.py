"""What the `hilnas train` commands share: which run or training a word names, and how it is shown."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from contracts.http import RestClient
from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig
from trainer.pipeline.chain import OnEvent, StageEvent


def silence_library_logs() -> None:
    """Hides what torchao and torch say about missing GPU kernels and about deprecations in their own code."""
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=r".*LeafSpec.*", category=FutureWarning)


def without_progress_bars() -> None:
    """transformers draws one for every file it loads."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def check_name(root: Path, name: str, recipe: str) -> None:
    """Another recipe under the same name would hide the first one's stages."""
    described = root / "runs" / name / "recipe.json"
    there = json.loads(described.read_text())["recipe"] if described.exists() else recipe
    if there != recipe:
        raise InvalidConfig(f"run {name!r} under {root} is of recipe {there}, not {recipe}; give another --name")


@contextmanager
def shown_at(url: str | None, root: Path, run_name: str, recipe: str) -> Iterator[OnEvent]:
    """Prints each line of progress, and ends the run where somebody stopped it at the coordinator."""
    if url is None:
        yield lambda event: typer.echo(str(event))
        return
    from trainer.runs.reporter import reported_to

    with reported_to(url, root, run_name, recipe) as stop_if_asked:

        def show(event: StageEvent) -> None:
            stop_if_asked()
            typer.echo(str(event))

        yield show


def rehearsed(recipe: str, arch: ArchConfig | None, root: Path, teacher: str | None, as_json: bool) -> None:
    """Without a teacher's directory: SmolLM2 where its vocabulary is large enough, else a stand-in."""
    from trainer.runs.rehearsal import rehearse

    rows = rehearse(recipe, arch, root, lambda text: typer.echo(text, err=as_json), teacher)
    if as_json:
        typer.echo(json.dumps(rows))


def is_training(text: str) -> bool:
    """An id of the coordinator's, of a training or of its trial; anything else is a run on this machine."""
    return text.startswith(("job-", "run-", "trial-"))


def training_of(rest: RestClient, text: str) -> str:
    """``text`` itself, or the newest training of that trial."""
    if not text.startswith("trial-"):
        return text
    found = rest.get("/trainings", trial_id=text)
    if not found:
        raise InvalidConfig(f"trial {text} has no training; `hilnas train start {text}`")
    return str(found[0]["id"])


def training_lines(training: dict[str, Any]) -> Iterator[str]:
    share = "" if training["share"] is None else f", {100 * training['share']:.0f} %"
    detail = training["error"] or training["message"]
    yield f"{training['recipe']} ({training['id']}) is {training['state']}{share}{': ' + detail if detail else ''}"
    for stage in training["stages"]:
        eta = "" if stage["eta_s"] is None else f", {stage['eta_s']:.0f} s left"
        done = f"{stage['seconds']:.0f} s" if stage["state"] == "done" and stage["seconds"] is not None else ""
        yield f"  {stage['name']}: {stage['state']} {done or stage['message']}{eta}".rstrip()


def rows_of(curve: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for index, step in enumerate(curve["steps"]):
        values = {name: column[index] for name, column in curve["columns"].items() if column[index] is not None}
        yield {"stage": curve["stage"], "step": step, **values}


def show_run(root: Path, name: str, as_json: bool) -> None:
    from trainer.pipeline.run_folder import state_of

    state = state_of(root, name)
    if as_json:
        typer.echo(json.dumps(state))
        return
    typer.echo(f"{name} ({state['recipe']}) is {'running' if state['running'] else 'not running'}")
    for stage, entry in state["stages"].items():
        detail = f"{entry['seconds']:.0f} s" if entry["state"] == "done" else entry.get("message", "not begun")
        typer.echo(f"  {stage}: {entry['state']}, {detail}")
