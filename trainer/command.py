"""``hilnas train``: hand winners over to training, and run the worker that trains them."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.rest import Rest
from nas.contracts.errors import InvalidConfig

app = typer.Typer(help="Train winners of a search.", no_args_is_help=True)
Url = Annotated[str, typer.Option(help="Coordinator.", envvar="HILNAS_URL")]
Root = Annotated[Path, typer.Option(help="Folder of runs and stages.")]


@app.command()
def start(
    trial_id: Annotated[str, typer.Argument(help="The trial to train, e.g. the knee of `hilnas search front`.")],
    recipe: Annotated[str, typer.Option(help="smoke or short.")] = "smoke",
    seed: int = 0,
    url: Url = "http://127.0.0.1:8000",
) -> None:
    """Leave a training job for the next free worker."""
    job = Rest(url).post(f"/trials/{trial_id}/train", {"recipe": recipe, "seed": seed})
    typer.echo(f"job {job['id']} is {job['state']}; `hilnas train worker` takes it")


@app.command()
def run(
    recipe: Annotated[str, typer.Option(help="tiny.")] = "tiny",
    arch: Annotated[
        str | None, typer.Option(help="Preset, architecture file or checkpoint; its vocabulary is replaced.")
    ] = None,
    teacher: Annotated[str, typer.Option(help="smollm2-135m or a Hugging Face directory.")] = "smollm2-135m",
    processes: Annotated[int, typer.Option(help="Processes that torchrun starts here.")] = 1,
    scale: Annotated[float, typer.Option(help="Of tokens and steps: 0.25 is a quarter of the recipe.")] = 1.0,
    name: Annotated[str | None, typer.Option(help="Of the run; the recipe's when absent.")] = None,
    root: Root = Path("var/train"),
    as_json: Annotated[bool, typer.Option("--json", help="End with every stage's metrics on one line.")] = False,
) -> None:
    """Run a whole recipe here; started again after any end, it goes on where it was."""
    from trainer.recipes import architecture_of, recipe_named  # brings torch
    from trainer.runs import Stopped, run_here

    _without_progress_bars()
    chosen = recipe_named(recipe, architecture_of(arch), teacher, processes, scale)
    try:
        results = run_here(chosen, root, name or recipe, typer.echo)
    except Stopped:
        typer.echo("stopped; the same command goes on", err=True)
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(json.dumps({stage: record["metrics"] for stage, record in results.items()}))
        return
    minutes = sum(record["seconds"] for record in results.values()) / 60
    run_name = name or recipe
    typer.echo(f"{run_name}: {len(results)} stages, {minutes:.1f} minutes; `hilnas train report {run_name}`")


@app.command()
def result(
    run_name: Annotated[str, typer.Argument(metavar="RUN")],
    stage: Annotated[str | None, typer.Option(help="Any that left a model; the last such when absent.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to fill; results/RUN-STAGE under --root when absent.")
    ] = None,
    quantization: Annotated[str, typer.Option(help="Of the program: 8da4w, 8da8w or fp32.")] = "8da4w",
    target: Annotated[list[str] | None, typer.Option(help="host, or a phone's serial number or HOST:PORT.")] = None,
    gguf: Annotated[list[str] | None, typer.Option(help="F32, F16, Q8_0, Q4_0; F16 when absent.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what result.json says.")] = False,
    root: Root = Path("var/train"),
) -> None:
    """A stage's model for others: Hugging Face, GGUF, a measured program, a card."""
    from trainer.results.records import run_record
    from trainer.results.write import CARD, Wanted, write_result

    run = run_record(root, run_name)
    subject = run.stage(stage)
    folder = out or root / "results" / f"{run_name}-{subject.name}"
    wanted = Wanted(quantization, tuple(target or ("host",)), tuple(gguf or ("F16",)))
    tell = lambda _, text: typer.echo(text, err=True)  # noqa: E731
    written = write_result(subject, run, folder, root / "cache", wanted, tell)
    typer.echo(json.dumps(written) if as_json else f"{folder / CARD}: {len(written['files'])} files")


@app.command()
def report(run_name: Annotated[str, typer.Argument(metavar="RUN")], root: Root = Path("var/train")) -> None:
    """What each stage of a run brought, as one page and its Markdown twin; at any time, of what is finished."""
    from trainer.evaluation.report import write_report  # brings torch

    typer.echo(str(write_report(root, run_name)))


@app.command()
def logs(
    run_name: Annotated[str, typer.Argument(metavar="RUN")], lines: int = 20, root: Root = Path("var/train")
) -> None:
    """The last curve lines of a run on this machine, as JSON lines."""
    from trainer.runs import curve_of

    for row in curve_of(root, run_name)[-lines:]:
        typer.echo(json.dumps(row))


@app.command()
def stop(run_name: Annotated[str, typer.Argument(metavar="RUN")], root: Root = Path("var/train")) -> None:
    """End a run on this machine; what it saved stays."""
    from trainer.runs import stop as stop_run

    typer.echo(f"{run_name} is told to stop" if stop_run(root, run_name) else f"{run_name} is not running")


@app.command()
def status(
    trial_id: Annotated[str, typer.Argument(metavar="TRIAL_OR_RUN")],
    url: Url = "http://127.0.0.1:8000",
    as_json: Annotated[bool, typer.Option("--json")] = False,
    root: Root = Path("var/train"),
) -> None:
    """What training brought for a trial and what its program measured; or how far a run on this machine is."""
    if (root / "runs" / trial_id).exists():
        _show_run(root, trial_id, as_json)
        return
    rest = Rest(url)
    trainings, trial = rest.get(f"/trials/{trial_id}/trainings"), rest.get(f"/trials/{trial_id}")
    if as_json:
        typer.echo(json.dumps({"trainings": trainings, "trained": trial["trained"]}))
        return
    for entry in trainings:
        run = entry["training"]
        bits = run["held_out_bits_per_byte"]
        typer.echo(
            f"{run['recipe']}: {run['steps']} steps, loss {run['losses'][0]:.3f} -> {run['losses'][-1]:.3f},"
            f" held-out {bits['before']:.3f} -> {bits['after']:.3f} bits per byte, program {run['program'][:12]}"
        )
    for device_id, row in trial["trained"].items():
        shown = [key for key in row["metrics"] if key.startswith(("decode_ms", "prefill_ms"))]
        medians = ", ".join(f"{key} {row['metrics'][key]['median']:.3g}" for key in shown)
        typer.echo(f"on {device_id}: {row['verdict']} {medians}")


@app.command()
def worker(
    url: Url = "http://127.0.0.1:8000",
    token: Annotated[
        str | None, typer.Option(help="Single-use enrolment token; only the first start needs one.")
    ] = None,
    home: Path = Path("var/trainer"),
    jobs: Annotated[int | None, typer.Option(help="Stop after this many jobs.")] = None,
) -> None:
    """Lease training jobs until stopped."""
    from trainer.worker import Worker  # brings torch

    home.mkdir(parents=True, exist_ok=True)
    if token is None and not (home / "credential.json").exists():
        token = Rest(url).post("/devices/tokens", {})["token"]
    served = Worker(url, home, token)
    signal.signal(signal.SIGTERM, lambda *_: served.stopping.set())
    served.run(jobs)


@app.command()
def merge(
    method: Annotated[str, typer.Argument(help="linear, slerp, task_arithmetic, ties, dare_*, della, della_linear.")],
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
    """Merge fine-tuned models into one; the result says in merge.json what it was made of."""
    from trainer.merging.merge import merge as merge_directories  # brings torch
    from trainer.merging.methods import method_named

    given = {"scale": scale, "density": density, "epsilon": epsilon, "t": t, "seed": seed, "weights": _numbers(weights)}
    chosen = method_named(method, **{name: value for name, value in given.items() if value is not None})
    record = merge_directories(chosen, models, out, base)
    typer.echo(json.dumps(record) if as_json else f"{out}: {record['num_tensors']} tensors merged by {method}")


def _without_progress_bars() -> None:
    """transformers draws one for every file it loads."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def _show_run(root: Path, name: str, as_json: bool) -> None:
    from trainer.runs import state_of

    state = state_of(root, name)
    if as_json:
        typer.echo(json.dumps(state))
        return
    typer.echo(f"{name} ({state['recipe']}) is {'running' if state['running'] else 'not running'}")
    for stage, entry in state["stages"].items():
        told = f"{entry['seconds']:.0f} s" if entry["state"] == "done" else entry.get("message", "not begun")
        typer.echo(f"  {stage}: {entry['state']}, {told}")


def _numbers(text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InvalidConfig(f"--weights {text!r} is no list of numbers; give one per model, e.g. 0.7,0.3") from None
