"""``hilnas train``: hand winners over to training, and run the worker that trains them."""

from __future__ import annotations

import json
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from contracts.http import RestClient
from contracts.job import TrainJob
from foundation.errors import InvalidConfig
from trainer.evaluation.command import report
from trainer.merging.command import merge
from trainer.pipeline.options import Root, Url
from trainer.recipes import RECIPES, options_from_text, planned, recipe_named
from trainer.results.command import result
from trainer.runs.terminal import (
    check_name,
    is_training,
    rehearsed,
    rows_of,
    show_run,
    shown_at,
    silence_library_logs,
    training_lines,
    training_of,
    without_progress_bars,
)
from trainer.runs.weights import START, no_weights, takes_weights

app = typer.Typer(help="Train winners of a search.", no_args_is_help=True)
RecipeName = Annotated[str, typer.Option(help=f"One of: {RECIPES.known}.")]
Teacher = Annotated[str | None, typer.Option(help="smollm2-135m or a Hugging Face directory, as the trainer finds it.")]
Processes = Annotated[int | None, typer.Option(help="Processes that share every training stage.")]
Scale = Annotated[float | None, typer.Option(help="Of tokens and steps: 0.25 is a quarter of the recipe.")]
Options = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other option of the recipe, e.g. steps=100.")
]


@app.callback()
def quiet() -> None:
    silence_library_logs()


@app.command()
def start(
    trial_id: Annotated[str, typer.Argument(help="The trial to train, e.g. the knee of `hilnas search front`.")],
    recipe: RecipeName = "smoke",
    seed: int = 0,
    scale: Scale = None,
    teacher: Teacher = None,
    processes: Processes = None,
    more: Options = None,
    url: Url = "http://127.0.0.1:8000",
) -> None:
    """Queue a training job; given again, it resumes one that was stopped."""
    options = recipe_options(recipe, more, scale=scale, teacher=teacher, processes=processes)
    rest = RestClient(url)
    if recipe not in (known := known_recipes(rest)):
        raise InvalidConfig(f"unknown recipe {recipe!r}; known: {', '.join(known)}")
    trial = rest.get(f"/trials/{trial_id}")
    if takes_weights(recipe) and START not in options:
        if "weights" not in trial["artifacts"]:
            raise InvalidConfig(no_weights(recipe))
    elif recipe in RECIPES and find_spec("torch") and (teacher is None or Path(teacher).exists()):
        from trainer.runs.handover import job_recipe  # what cannot work is said now, where it can be known

        job_recipe(TrainJob(arch=trial["arch"], recipe=recipe, seed=seed, options=options))
    job = rest.post(f"/trials/{trial_id}/train", {"recipe": recipe, "seed": seed, "options": options})
    next_step = {
        "queued": "`hilnas train worker` takes it", "failed": f"{job['error']}; `hilnas train resume {job['id']}`"
    }  # fmt: skip
    typer.echo(f"training {job['id']} is {job['state']}; {next_step.get(job['state'], 'nothing new to do')}")


def known_recipes(rest: RestClient) -> list[str]:
    """Those known here, and those that enrolled trainers have by plugins of their own."""
    return list(dict.fromkeys([*RECIPES, *(part["name"] for part in rest.get("/registry")["recipes"])]))


def recipe_options(recipe: str, more: list[str] | None, **given: object) -> dict[str, object]:
    """Options that were given, with those of ``--set``. A recipe that only a trainer knows is checked there."""
    named = {name: value for name, value in given.items() if value is not None}
    if wrong := [word for word in more or () if not word.partition("=")[2]]:
        raise InvalidConfig(f"--set {wrong[0]!r} is not key=value; write e.g. --set steps=100")
    return {**named, **(options_from_text(recipe, more) if more else {})}


@app.command()
def run(
    recipe: RecipeName = "tiny",
    arch: Annotated[
        str | None, typer.Option(help="Preset, architecture file or checkpoint; its vocabulary is the recipe's.")
    ] = None,
    teacher: Teacher = None,
    processes: Processes = None,
    launcher: Annotated[str, typer.Option(help="Starts them: torchrun, or ray, also on a cluster.")] = "torchrun",
    scale: Scale = None,
    more: Options = None,
    seed: Annotated[int, typer.Option(help="Of weights and of the order of rows.")] = 0,
    name: Annotated[str | None, typer.Option(help="Of the run; the recipe's when absent.")] = None,
    root: Root = Path("var/train"),
    url: Annotated[str | None, typer.Option(help="Coordinator that shows the run.")] = None,
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="One step of every stage on a few short rows of package text.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with every stage's metrics on one line.")] = False,
) -> None:
    """Run a recipe on this machine; the same command resumes it after any stop."""
    from trainer.engine.launch import check_launcher  # brings torch
    from trainer.recipes.architecture import architecture_of
    from trainer.runs.local import Stopped, run_here

    without_progress_bars()
    check_launcher(launcher)
    if rehearse:
        rehearsed(recipe, architecture_of(arch), root, teacher, as_json)
        return
    options = recipe_options(recipe, more, scale=scale, teacher=teacher, processes=processes)
    chosen = recipe_named(recipe, architecture_of(arch), options).seeded(seed)
    run_name = name or recipe
    check_name(root, run_name, chosen.name)
    try:
        with shown_at(url, root, run_name, chosen.name) as show:
            results = run_here(chosen, root, run_name, show, launcher)
    except Stopped:
        typer.echo("stopped; the same command goes on", err=True)
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(json.dumps({stage: record["metrics"] for stage, record in results.items()}))
        return
    minutes = sum(record["seconds"] for record in results.values()) / 60
    typer.echo(f"{run_name}: {len(results)} stages, {minutes:.1f} minutes; `hilnas train report {run_name}`")


@app.command()
def plan(
    recipe: RecipeName = "lfm2_5_350m",
    arch: Annotated[str | None, typer.Option(help="Preset, architecture file or checkpoint.")] = None,
    scale: Annotated[float, typer.Option(help="Of tokens and steps.")] = 1.0,
    gpus: Annotated[int, typer.Option(help="That share the work.")] = 8,
    peak_tflops: Annotated[float, typer.Option(help="Of one GPU, dense bfloat16; an H100 SXM has 989.")] = 989.0,
    mfu: Annotated[float, typer.Option(help="Share of the peak that is reached.")] = 0.4,
    teacher_params: Annotated[
        float, typer.Option(help="Parameters of the teacher, whose forward pass counts.")
    ] = 1.7e9,
    price: Annotated[float | None, typer.Option(help="Of one GPU for one hour, in any currency.")] = None,
    memory: Annotated[float, typer.Option(help="Of one GPU, in GB.")] = 80.0,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """What a recipe costs before it is run: tokens, FLOPs, GPU hours and memory of every stage."""
    from trainer.pipeline.costing import Device
    from trainer.recipes.architecture import architecture_of
    from trainer.runs.cost import plan_of, shown

    device = Device(gpus, peak_tflops * 1e12, mfu, price, memory * 1e9)
    made = plan_of(planned(recipe, architecture_of(arch), scale), device, round(teacher_params))
    typer.echo(json.dumps(made) if as_json else shown(made))


@app.command()
def logs(
    run_name: Annotated[str, typer.Argument(metavar="RUN_OR_TRAINING")],
    lines: int = 20,
    url: Url = "http://127.0.0.1:8000",
    root: Root = Path("var/train"),
) -> None:
    """The last curve lines of a run on this machine, or of a training at the coordinator, as JSON lines."""
    from trainer.pipeline.run_folder import curve_of, known

    if known(root, run_name) or not is_training(run_name):
        rows = curve_of(root, run_name)
    else:
        curves = RestClient(url).get(f"/trainings/{run_name}/curve")
        rows = [row for curve in curves for row in rows_of(curve)]
    for row in rows[-lines:]:
        typer.echo(json.dumps(row))


@app.command()
def stop(
    run_name: Annotated[str, typer.Argument(metavar="RUN_OR_TRAINING")],
    url: Url = "http://127.0.0.1:8000",
    root: Root = Path("var/train"),
) -> None:
    """End a run on this machine, or a training at the coordinator; what it saved stays."""
    from trainer.pipeline.run_folder import known
    from trainer.runs.local import stop as stop_run

    if known(root, run_name) or not is_training(run_name):
        typer.echo(f"{run_name} is stopping" if stop_run(root, run_name) else f"{run_name} is not running")
        return
    rest = RestClient(url)
    training = rest.post(f"/trainings/{training_of(rest, run_name)}/stop")
    typer.echo(f"training {training['id']} is {training['state']}; `hilnas train resume {training['id']}` goes on")


@app.command()
def resume(training_id: Annotated[str, typer.Argument(metavar="TRAINING")], url: Url = "http://127.0.0.1:8000") -> None:
    """Queue a stopped or failed training again; its worker goes on from what is saved."""
    rest = RestClient(url)
    training = rest.post(f"/trainings/{training_of(rest, training_id)}/resume")
    typer.echo(f"training {training['id']} is {training['state']}; `hilnas train worker` takes it")


@app.command()
def status(
    trial_id: Annotated[str, typer.Argument(metavar="TRIAL_OR_RUN")],
    url: Url = "http://127.0.0.1:8000",
    as_json: Annotated[bool, typer.Option("--json")] = False,
    root: Root = Path("var/train"),
) -> None:
    """Show progress, results and measurements of a trial's training, or of a run on this machine."""
    if (root / "runs" / trial_id).exists():
        show_run(root, trial_id, as_json)
        return
    rest = RestClient(url)
    if trial_id.startswith(("job-", "run-")):
        training = rest.get(f"/trainings/{trial_id}")
        typer.echo(json.dumps(training) if as_json else "\n".join(training_lines(training)))
        return
    trainings, trial = rest.get(f"/trials/{trial_id}/trainings"), rest.get(f"/trials/{trial_id}")
    runs = [rest.get(f"/trainings/{run['id']}") for run in rest.get("/trainings", trial_id=trial_id)]
    if as_json:
        typer.echo(json.dumps({"runs": runs, "trainings": trainings, "trained": trial["trained"]}))
        return
    for training in runs:
        typer.echo("\n".join(training_lines(training)))
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
    from trainer.runs.worker import Worker  # brings torch

    home.mkdir(parents=True, exist_ok=True)
    if token is None and not (home / "credential.json").exists():
        token = RestClient(url).post("/devices/tokens", {"serves": ["train"]})["token"]
    served = Worker(url, home, token)
    signal.signal(signal.SIGTERM, lambda *_: served.stopping.set())
    served.run(jobs)


app.command()(result)
app.command()(report)
app.command()(merge)
