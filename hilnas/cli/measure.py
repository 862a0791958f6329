"""``hilnas measure``: one preset or architecture file on this machine or on a phone, without a coordinator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from contracts.measurement import Measurement, Verdict
from contracts.plan import PROTOCOLS, CacheDtype, Protocol
from foundation.errors import HilnasError, InvalidConfig
from hilnas.cli.checks import require_threads, require_writable_folder
from hilnas.cli.progress import LOG, Say, compiling, working
from hilnas.local import HOST, LocalMeasurer
from nas.export.backends import BACKENDS, DEFAULT_BACKEND
from nas.targets import on_cores
from search_space.arch import ArchConfig
from search_space.cost import QUANTIZATIONS
from search_space.presets import architecture
from search_space.quantizable import require_quantizable

app = typer.Typer(help="Measure one preset or architecture file.")
console = Console()


class NotValid(HilnasError):
    exit_code = 3


@app.command()
def measure(
    target: Annotated[str, typer.Argument(help="Preset name or architecture file (JSON).")],
    protocol: Annotated[str, typer.Option(help=f"One of: {', '.join(PROTOCOLS)}.")] = "screening",
    quantization: Annotated[str, typer.Option(help=f"One of: {', '.join(QUANTIZATIONS)}.")] = "8da4w",
    backend: Annotated[str, typer.Option(help=f"One of: {BACKENDS.known}.")] = DEFAULT_BACKEND,
    cache_dtype: Annotated[CacheDtype, typer.Option(help="Of keys and values.")] = "fp32",
    threads: Annotated[int, typer.Option(min=1, max=256, help="At most the device's cores.")] = 2,
    one_piece: Annotated[
        bool, typer.Option(help="Export as one program instead of composing blocks (minutes).")
    ] = False,
    phone: Annotated[str | None, typer.Option(help="Serial number or HOST:PORT of a phone to measure on.")] = None,
    library: Annotated[
        Path, typer.Option(help=f"Block library; what torch and its exporter print goes to {LOG} in it.")
    ] = Path("var/library"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the measurement as JSON.")] = False,
) -> None:
    """Compile what is missing, check parity, measure; exit code 3 when the verdict is not valid."""
    if protocol not in PROTOCOLS:
        raise InvalidConfig(f"unknown protocol {protocol!r}; known: {', '.join(PROTOCOLS)}")
    BACKENDS.get_or_raise(backend).check(quantization)
    arch = architecture(target)
    require_quantizable(arch, quantization)
    if phone is None:
        require_threads(threads)
    require_writable_folder(library, "--library")
    local = LocalMeasurer(
        phone or HOST, library, quantization=quantization, cache_dtype=cache_dtype, backend=backend
    )
    with local:
        require_threads(threads, local.facts.cores)
        with working(library / LOG) as say:
            row = _measured(local, arch, PROTOCOLS[protocol](threads), one_piece, say)
    typer.echo(row.model_dump_json()) if as_json else show(target, row)
    if row.verdict is not Verdict.VALID:
        raise NotValid(f"verdict {row.verdict}: {row.reason}")


def _measured(local: LocalMeasurer, arch: ArchConfig, protocol: Protocol, one_piece: bool, say: Say) -> Measurement:
    say("looking for missing blocks")
    local.compile([arch], compiling(say))
    say("exporting one program, which takes minutes" if one_piece else "computing the logits to compare with")
    plan = local.one_piece_plan(arch, protocol, local.export(arch)) if one_piece else local.plan(arch, protocol)
    say(f"measuring on {local.facts.name} by the protocol {protocol.name}")
    return local.measure_plan(plan if local.facts.kind == HOST else on_cores(plan, [local.facts]))


def show(name: str, row: Measurement) -> None:
    table = Table(title=f"{name}: {row.verdict}", title_justify="left")
    for column in ("metric", "median", "95 % interval", "samples"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for key, estimate in row.metrics.items():
        interval = f"{estimate.low:.4g} - {estimate.high:.4g}"
        table.add_row(key, f"{estimate.median:.4g} {estimate.unit}", interval, str(estimate.num_samples))
    console.print(table)
    for phase, steps in row.block_ms.items():
        total, by_kind = sum(steps.values()), dict[str, float]()
        for name_, ms in steps.items():
            kind = name_.split(".")[-1]
            by_kind[kind] = by_kind.get(kind, 0.0) + ms
        parts = ", ".join(f"{kind} {ms / total:.0%}" for kind, ms in sorted(by_kind.items(), key=lambda x: -x[1]))
        outside = row.outside_xnnpack.get(phase)
        own = f"; {outside:.0%} of the time in our own operators" if outside is not None else ""
        console.print(f"{phase}: {total:.2f} ms in blocks: {parts}{own}")

