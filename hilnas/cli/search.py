"""``hilnas search``: start, watch, read and stop studies through the public REST API."""

from __future__ import annotations

import json
import math
import re
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live

from contracts.device import KINDS
from contracts.http import RestClient
from contracts.metrics import MetricKey
from contracts.plan import PROTOCOLS
from contracts.study import QualitySpec
from contracts.values import MAX_INTEGER
from foundation.errors import HilnasError, InvalidConfig
from foundation.files import is_file, read_text
from foundation.json_text import read_json
from foundation.part_spec import parse_spec
from hilnas.cli.checks import number_of
from hilnas.cli.progress import duration
from hilnas.cli.show import front_table, is_ending, misses_table, progress_line, progress_panel
from nas.export.backends import BACKENDS, DEFAULT_BACKEND
from nas.quality.contract import ESTIMATORS, metric_of
from nas.samplers import SAMPLERS
from search_space.cost import QUANTIZATIONS
from search_space.presets import PRESETS, architecture
from search_space.space import SPACES, named
from search_space.space.data import read_data

app = typer.Typer(help="Start, watch and stop searches.", no_args_is_help=True)
console = Console()
Url = Annotated[str | None, typer.Option(help="Coordinator, default HILNAS_URL or http://127.0.0.1:8000")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
POLL_S = 1.0
ENDED = ("finished", "stopped", "failed")


class NothingFeasible(HilnasError):
    exit_code = 3


@app.command()
def start(
    name: Annotated[str, typer.Option(help="What to call the study.")] = "search",
    space: Annotated[
        str, typer.Option(help=f"Search space: {SPACES.known}, with options ('around parent=NAME'), or a file.")
    ] = "debug_space",
    objective: Annotated[
        list[str] | None, typer.Option(help="Metric to optimize, e.g. decode_ms@512 or decode_ms@512:s24; repeat.")
    ] = None,
    budget: Annotated[list[str] | None, typer.Option(help="Bound, e.g. memory_bytes@4096=4e8; repeat.")] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="Where to measure: name=model:SM-S921B, name=device:ID, name=host or name=android; repeat."),
    ] = None,
    sampler: Annotated[str, typer.Option(help=f"One of: {SAMPLERS.known}.")] = "surrogate",
    trials: Annotated[int, typer.Option(min=1, help="Candidates to propose.")] = 24,
    judged: Annotated[int | None, typer.Option(min=1, help="At most this many get a quality estimate.")] = None,
    protocol: Annotated[str, typer.Option(help=f"One of: {', '.join(PROTOCOLS)}.")] = "screening",
    quantization: Annotated[str, typer.Option(help=f"One of: {', '.join(QUANTIZATIONS)}.")] = "8da4w",
    backend: Annotated[str, typer.Option(help=f"One of: {BACKENDS.known}.")] = DEFAULT_BACKEND,
    quality: Annotated[
        str, typer.Option(help=f"Quality estimator: {ESTIMATORS.known}; with options as 'text tokens=1000000 seeds=2'.")
    ] = "mechanistic",
    executor: Annotated[
        str, typer.Option(help="Where judgements run: local, or ray (the cluster at RAY_ADDRESS).")
    ] = "local",
    finalists: Annotated[
        str | None, typer.Option(help="Judged again with other options: '4 distil_steps=100' for the best four.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, max=256)] = 2,
    seed: Annotated[int, typer.Option(min=0, max=MAX_INTEGER)] = 0,
    warm_start: Annotated[
        list[str] | None, typer.Option(help="A study of the same space whose results the sampler learns from; repeat.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="A study specification in JSON, instead of options.")] = None,
    watch: Annotated[bool, typer.Option(help="Stay and show progress until the study ends.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Start a study."""
    if file is not None:
        spec = _read(file)
    else:
        judge = _quality(quality)
        keys = objective or [metric_of(judge).name, "decode_ms@512", "memory_bytes@4096"]
        spec = {
            "name": name, **_space(space), "objectives": [{"metric": key} for key in keys],
            "budgets": dict(map(_budget, budget or [])), "sampler": sampler, "max_trials": trials,
            "max_quality": judged, "protocol": protocol, "quantization": quantization, "backend": backend,
            "quality": {**judge.model_dump(), "executor": executor, "finalists": _finalists(finalists)},
            "threads": threads, "seed": seed,
            "targets": list(map(_target, target or [])), "warm_start": warm_start or [],
        }  # fmt: skip
    rest = RestClient(url)
    study = rest.post("/studies", spec)
    if as_json and not watch:
        typer.echo(json.dumps(study))
    elif not watch:
        console.print(
            f"study [bold]{study['id']}[/] started; watch it with `hilnas search status {study['id']} --watch`"
        )
        for note in study["notes"]:
            console.print(f"[yellow]{note}[/]")
    if watch:
        _end(watch_study(rest, study["id"], as_json), as_json)


@app.command()
def status(
    study_id: Annotated[str | None, typer.Argument(help="Study id; without one, all studies.")] = None,
    watch: Annotated[bool, typer.Option(help="Stay until the study ends.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show the progress of one study, or list all."""
    rest = RestClient(url)
    if study_id is None:
        studies = rest.get("/studies")
        _list(studies, as_json)
        return
    if watch:
        _end(watch_study(rest, study_id, as_json), as_json)
        return
    study = rest.get(f"/studies/{study_id}")
    if as_json:
        typer.echo(json.dumps(study))
    else:
        console.print(_panel(rest, study))
        if study["reason"]:
            console.print(study["reason"])


@app.command()
def front(
    study_id: str,
    target: Annotated[str | None, typer.Option(help="The front as this target sees it; default: of all.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show the Pareto front of a study."""
    found = RestClient(url).get(f"/studies/{study_id}/front", **({"target": target} if target else {}))
    title = f"Pareto front on {target}" if target else "Pareto front"
    if as_json:
        typer.echo(json.dumps(found))
        return
    console.print(front_table(found, title))
    if found.get("nearest_misses"):
        console.print(misses_table(found))


@app.command()
def stop(study_id: str, url: Url = None) -> None:
    """Stop a study; everything measured is kept and `resume` continues it."""
    study = RestClient(url).post(f"/studies/{study_id}/stop")
    console.print(f"study {study_id} is {study['state']}")


@app.command()
def resume(study_id: str, url: Url = None) -> None:
    """Continue a stopped or failed study."""
    study = RestClient(url).post(f"/studies/{study_id}/resume")
    console.print(f"study {study_id} is {study['state']}")


@app.command()
def extend(
    study_id: str, trials: Annotated[int, typer.Option(min=1, help="How many more candidates.")] = 24, url: Url = None
) -> None:
    """Let a study propose more candidates; one that ended goes on."""
    study = RestClient(url).post(f"/studies/{study_id}/extend", {"trials": trials})
    console.print(f"study {study_id} is {study['state']}, for {study['max_trials']} candidates in all")


@app.command()
def enqueue(
    study_id: str,
    arch: Annotated[str, typer.Argument(help="A preset, or an architecture in a JSON file.")],
    name: Annotated[str, typer.Option(help="What plots call it; default: the preset's name.")] = "",
    url: Url = None,
) -> None:
    """Measure a known architecture next."""
    body = {"preset": arch} if arch in PRESETS else {"arch": architecture(arch).to_dict()}
    trial = RestClient(url).post(f"/studies/{study_id}/enqueue", {**body, "name": name})
    console.print(f"candidate {trial['number']} of study {study_id}")


@app.command("export-optuna")
def export_optuna(
    study_id: str,
    out: Annotated[str, typer.Option(help="Storage URL, e.g. sqlite:///study.db")] = "sqlite:///optuna.db",
    url: Url = None,
) -> None:
    """Write the study as an Optuna RDB storage that optuna-dashboard opens."""
    from nas.optuna_export import write_storage

    rest = RestClient(url)
    count = write_storage(rest.get(f"/studies/{study_id}"), rest.get(f"/studies/{study_id}/trials"), out)
    console.print(f"{count} trials written to {out}")


def watch_study(rest: RestClient, study_id: str, as_json: bool = False) -> dict[str, Any]:
    """Shows live progress until the study ends; returns its final state. Ctrl-C leaves the study running. With
    ``as_json`` standard output is left to the result."""
    if not console.is_terminal:
        return _watch_by_lines(rest, study_id, as_json)
    with Live(console=console, refresh_per_second=2, transient=False) as live:
        while True:
            study = rest.get(f"/studies/{study_id}")
            live.update(_panel(rest, study))
            if study["state"] in ENDED:
                return study
            time.sleep(POLL_S)


def _watch_by_lines(rest: RestClient, study_id: str, to_error: bool) -> dict[str, Any]:
    """Into a file or a pipe: a line whenever a count changed."""
    shown = ""
    while True:
        study: dict[str, Any] = rest.get(f"/studies/{study_id}")
        if (line := progress_line(study)) != shown:
            known = study.get("eta_s") and not is_ending(study)
            left = f", about {duration(study['eta_s'])} left" if known else ""
            typer.echo(f"{line}{left}", err=to_error)
            shown = line
        if study["state"] in ENDED:
            return study
        time.sleep(POLL_S)


def _list(studies: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(studies))
        return
    for study in studies:
        counts = ", ".join(f"{count} {state}" for state, count in study["trials"].items() if count)
        console.print(f"{study['id']}  {study['state']:9} {study['name']}  {counts}")


def _panel(rest: RestClient, study: dict[str, Any]) -> Any:
    online = sum(device["state"] == "online" for device in rest.get("/devices"))
    return progress_panel(study, rest.get(f"/studies/{study['id']}/front"), study["jobs"], online)


def _end(study: dict[str, Any], as_json: bool) -> None:
    typer.echo(json.dumps(study)) if as_json else console.print(study["reason"])
    if study["state"] == "failed":
        raise HilnasError(study["reason"])
    if not study["front_size"]:
        raise NothingFeasible(study["reason"] or "the study ended without a complete candidate")


def _space(text: str) -> dict[str, Any]:
    """A file travels as the data that it holds: the coordinator need not have it."""
    if text.lstrip()[:1] in ("{", "["):
        raise InvalidConfig("that is JSON itself: write it to a file and give the file's path, or name a search space")
    named_file = is_file(text) or text.endswith((".yaml", ".yml", ".json"))
    if named_file and text not in SPACES:
        return {"space": read_data(Path(text))}
    name, _, options = text.partition(" ")
    return {"space": name, "space_options": named(text)[1] if options else {}}


def _budget(text: str) -> tuple[str, float]:
    key, equals, value = text.rpartition("=")
    example = "write a budget as metric=number, e.g. decode_ms@512=10"
    if not (key and equals):
        raise InvalidConfig(f"{example}; got {text!r}")
    return MetricKey.parse(key).text, number_of(value, example)


def _finalists(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    spec = parse_spec(text, "finalists")
    if not re.fullmatch(r"[0-9]{1,9}", spec.name):
        raise InvalidConfig(f"finalists {text!r} begin with how many there are, e.g. '4 distil_steps=100'")
    return {"count": int(spec.name), "options": dict(spec.options)}


def _quality(text: str) -> QualitySpec:
    """``text tokens=1000000 learning_rates=0.004,0.008``: the estimator's name, then its options."""
    spec = parse_spec(text, "quality estimator")
    return QualitySpec(estimator=spec.name, options={key: _value(value) for key, value in spec.options.items()})


def _value(text: str) -> Any:
    """A number or text; several, separated by commas, are a list."""
    if "," in text:
        return [_value(part) for part in text.split(",") if part]
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidConfig(f"an option of an estimator takes finite numbers, got {text!r}")
    return value


def _target(text: str) -> dict[str, Any]:
    name, _, choice = text.partition("=")
    selector, _, value = choice.partition(":")
    if name and selector in ("model", "device") and value:
        return {"name": name, selector: value}
    if name and re.fullmatch("[a-z][a-z0-9_-]*", choice):
        return {"name": name, "kind": choice}
    raise InvalidConfig(
        f"write a target as name=model:SM-S921B, name=device:ID or name=KIND ({', '.join(KINDS)}, ...); got {text!r}"
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        found = read_json(read_text(file))
    except ValueError as error:
        raise InvalidConfig(f"{file} is not a study specification in JSON: {error}") from None
    if not isinstance(found, dict):
        raise InvalidConfig(f"{file} is not a study specification: expected an object, got {str(found)[:80]}")
    return found
