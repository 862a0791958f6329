"""``hilnas virtual-phone``: a phone made of software, when no real one is at hand."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from foundation.errors import InvalidConfig
from virtual_phone import control
from virtual_phone.phone import VirtualPhone
from virtual_phone.system import MAX_CORES, models

app = typer.Typer(help="Start a virtual phone.", invoke_without_command=True)
State = Annotated[Path, typer.Option(help="Folder of the phone's files.")]
DEFAULT_STATE = Path("var/virtual-phone")


@app.callback()
def start(
    context: typer.Context,
    port: Annotated[int, typer.Option(help="TCP port on loopback, 0 for a free one.")] = 5555,
    model: Annotated[str, typer.Option(help=f"One of {', '.join(models())}.")] = "s24",
    state: State = DEFAULT_STATE,
    cores: Annotated[int, typer.Option(help="Cores of this machine that the phone gets, at most 8.")] = MAX_CORES,
) -> None:
    """Real adbd, the aarch64 runner under qemu, and stand-ins for Android's commands; stays until Ctrl-C."""
    if context.invoked_subcommand is not None:
        return
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with VirtualPhone(state, model, port, num_cores=cores) as phone:
        typer.echo(f"virtual {model} at {phone.address}")
        typer.echo(f"measure with it:  hilnas agent android --connect {phone.address}")
        typer.echo(f"spoil something:  hilnas virtual-phone fault reboot  (or {', '.join(control.FAULTS)})")
        stop.wait()


@app.command()
def fault(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(control.FAULTS)}.")],
    arguments: Annotated[list[str] | None, typer.Argument(help="NAME=VALUE, such as after_bytes=1000000.")] = None,
    state: State = DEFAULT_STATE,
) -> None:
    """Make something go wrong on the phone that runs in STATE."""
    result = control.ask(state, name, dict(_argument(text) for text in arguments or ()))
    typer.echo(f"{name} done" if result is None else f"{name}: {result}")


def _argument(text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not separator:
        raise InvalidConfig(f"{text!r} is not an argument of a fault; write NAME=VALUE, such as down_s=5")
    try:
        return key, json.loads(value)
    except ValueError as error:
        raise InvalidConfig(f"{value!r} in {text!r} is neither a number nor true or false") from error
