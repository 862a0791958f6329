"""``hilnas compare``: which model runs well on this device, by numbers with intervals and probabilities."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from contracts.comparison import Comparison
from contracts.http import RestClient
from contracts.measurement import Verdict
from contracts.plan import CacheDtype
from device_agents.sustained import MAX_MINUTES
from foundation.errors import HilnasError, InvalidConfig
from foundation.files import write_atomically
from hilnas.cli.checks import require_threads, require_writable_file, require_writable_folder
from hilnas.cli.progress import LOG, working
from hilnas.comparison.earlier import joined, read_comparison, require_names
from hilnas.comparison.models import named_models
from hilnas.comparison.session import Request, run
from hilnas.comparison.show import markdown, show
from hilnas.local import HOST, LIBRARY
from nas.export.backends import BACKENDS, DEFAULT_BACKEND
from search_space.cost import QUANTIZATIONS
from search_space.quantizable import require_quantizable

app = typer.Typer(help="Compare models on one device.")
console, progress = Console(), Console(stderr=True)
MAX_LENGTH = 131_072
PHONE = "phone:"


class NotValid(HilnasError):
    exit_code = 3


@app.command()
def compare(
    models: Annotated[
        list[str] | None, typer.Argument(help="Presets, architecture files (JSON) and Hugging Face directories.")
    ] = None,
    on: Annotated[
        str, typer.Option(help="host, or phone:NAME where NAME is s24, a model, a serial number or HOST:PORT.")
    ] = HOST,
    prompt: Annotated[list[int] | None, typer.Option(min=1, max=MAX_LENGTH, help="Prompt length, 512.")] = None,
    context: Annotated[
        list[int] | None, typer.Option(min=1, max=MAX_LENGTH, help="Tokens before decoding, 4096.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=2, max=100, help="Cold processes of each model.")] = 5,
    threads: Annotated[int, typer.Option(min=1, max=256)] = 2,
    quantization: Annotated[str, typer.Option(help=f"One of: {', '.join(QUANTIZATIONS)}.")] = "8da4w",
    cache_dtype: Annotated[CacheDtype, typer.Option(help="Of keys and values.")] = "fp32",
    baseline: Annotated[str | None, typer.Option(help="Model that the others' times are divided by.")] = None,
    sustained: Annotated[
        float, typer.Option(min=0, max=MAX_MINUTES, help="Minutes of decoding without a pause, for each model.")
    ] = 0.0,
    llama_bench: Annotated[
        Path | None, typer.Option(help="llama.cpp's program for this device: compares the --gguf files with it.")
    ] = None,
    gguf: Annotated[list[Path] | None, typer.Option(help="GGUF file for --llama-bench.")] = None,
    with_: Annotated[list[Path] | None, typer.Option("--with", help="Earlier result (JSON) to show beside.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do not go on with a session that was cut off.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    as_markdown: Annotated[Path | None, typer.Option("--markdown", help="Also write it to this file.")] = None,
    publish: Annotated[bool, typer.Option("--publish", help="Post it to the coordinator: a page to share.")] = False,
    url: Annotated[str | None, typer.Option(help="Of the coordinator, default HILNAS_URL.")] = None,
    library: Annotated[
        Path, typer.Option(help=f"Block library; what torch and its exporter print goes to {LOG} in it.")
    ] = LIBRARY,
) -> None:
    """Measure models in turn, one cold process of each a round, and say which is faster and how surely.

    Exit code 3 when a row is not valid.
    """
    earlier = tuple((path, read_comparison(path)) for path in with_ or ())
    texts, ggufs = tuple(models or ()), tuple(gguf or ())
    check_options(texts, ggufs, llama_bench, earlier, quantization)
    if as_markdown is not None:
        require_writable_file(as_markdown, "--markdown")
    coordinator = reachable(url) if publish else None
    if texts or ggufs:
        request = Request(
            models=tuple(named_models(texts)), texts=texts, on=on, target=target_of(on),
            prompts=unique(prompt or [512]), contexts=unique(context or [4096]), rounds=rounds, threads=threads,
            quantization=quantization, cache_dtype=cache_dtype, baseline=baseline, sustained_minutes=sustained,
            llama_bench=llama_bench, ggufs=ggufs, earlier=earlier,
        )  # fmt: skip
        check_names(request.names, baseline)
        check_widths(request)
        if on == HOST:
            require_threads(threads)
        require_writable_folder(library, "--library")
        result = measured(request, library, fresh)
    else:
        result = joined(earlier, baseline)
    tell(result, as_json, as_markdown)
    if coordinator is not None:
        progress.print(f"published: {posted(coordinator, result)}", highlight=False)
    if bad := [f"{row.name} ({row.verdict})" for row in result.rows if row.verdict is not Verdict.VALID]:
        raise NotValid(f"not valid: {', '.join(bad)}")


def check_options(
    texts: Sequence[str], ggufs: Sequence[Path], llama_bench: Path | None, earlier: Sequence[Any], quantization: str
) -> None:
    if not (texts or ggufs or earlier):
        raise InvalidConfig("name two models or more, e.g. `hilnas compare smollm2_135m lfm2_350m --context 4096`")
    if bool(ggufs) != (llama_bench is not None):
        missing = "--llama-bench PATH, llama.cpp's program" if ggufs else "--gguf FILE, the model for llama-bench"
        raise InvalidConfig(f"--llama-bench and --gguf go together: also give {missing}")
    BACKENDS.get_or_raise(DEFAULT_BACKEND).check(quantization)


def check_names(names: Sequence[str], baseline: str | None) -> None:
    require_names(names)
    if len(names) < 2:
        raise InvalidConfig(f"a comparison needs two models, got {names[0]} alone; `hilnas measure` measures one")
    if baseline is not None and baseline not in names:
        raise InvalidConfig(f"--baseline {baseline} is not one of the compared models: {', '.join(names)}")


def check_widths(request: Request) -> None:
    """Raises InvalidConfig with the first model that the quantization cannot pack."""
    for model in request.models:
        try:
            require_quantizable(model.arch, request.quantization)
        except InvalidConfig as error:
            raise InvalidConfig(f"{model.name}: {error}") from None


def target_of(on: str) -> str:
    """``host`` or a phone's address."""
    if on == HOST:
        return HOST
    if not on.startswith(PHONE) or on == PHONE:
        raise InvalidConfig(f"--on takes host or phone:NAME, e.g. phone:s24 or phone:192.168.1.20:5555; got {on!r}")
    from device_agents.devices.android.discovery import address_of

    return address_of(on.removeprefix(PHONE))


def unique(lengths: Sequence[int]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(lengths))


def folder() -> Path:
    return Path(os.environ.get("HILNAS_VAR") or "var") / "comparisons"


def measured(request: Request, library: Path, fresh: bool) -> Comparison:
    if fresh:
        for left in folder().glob("open-*.jsonl"):
            left.rename(left.with_name(f"left-{time.time():.0f}-{left.name}"))
    with working(library / LOG) as say:
        say("opening the device")
        return run(request, library, folder(), say)


def tell(result: Comparison, as_json: bool, as_markdown: Path | None) -> None:
    typer.echo(result.model_dump_json()) if as_json else show(result, console)
    if as_markdown is not None:
        write_atomically(as_markdown, markdown(result))
        progress.print(f"written: {as_markdown}", highlight=False)


def reachable(url: str | None) -> RestClient:
    """Raises Unreachable before minutes of measuring."""
    client = RestClient(url)
    client.get("/health")
    return client


def posted(client: RestClient, result: Comparison) -> str:
    """The address of the page."""
    kept = client.post("/comparisons", result.model_dump(mode="json"))
    return f"{client.url}/comparisons/{kept['id']}"
