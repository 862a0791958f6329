"""``hilnas agent``: serve this machine, or devices attached to it, as measurement devices of a coordinator."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Annotated

import typer

from device_agents.agent import Agent
from device_agents.devices.android import command as phones
from device_agents.devices.kinds import DEVICE_KINDS
from device_agents.devices.replay import ReplayDevice
from device_agents.devices.served import ServedHostDevice
from device_agents.enrolment import local_token

app = typer.Typer(help="Run a measurement agent.", no_args_is_help=True)
Url = Annotated[str, typer.Option(help="Coordinator.", envvar="HILNAS_URL")]
Token = Annotated[str | None, typer.Option(help="Single-use enrolment token; only the first start needs one.")]
Home = Annotated[Path, typer.Option(help="Credential, block cache and unsent results.")]

app.command()(phones.android)
app.command()(phones.doctor)
app.command()(phones.clear)


@app.callback()
def _group() -> None:
    """Agents pull work from a coordinator; stop one with SIGTERM or Ctrl-C: it finishes the job in hand."""


@app.command()
def host(
    url: Url = "http://127.0.0.1:8000",
    token: Token = None,
    home: Home = Path("var/agent"),
    name: Annotated[str | None, typer.Option(help="Device name, default the host name.")] = None,
    runner: Annotated[Path | None, typer.Option(help="hilnas-runner binary, default build/kernels.")] = None,
) -> None:
    """Measure on this machine (x86-64 or aarch64 Linux)."""
    device = ServedHostDevice(home / "blocks", runner, name)
    _serve(Agent(url, device, home, token or local_token(url, home)))


@app.command()
def serve(
    kind: Annotated[str, typer.Argument(help=f"Kind of device: {DEVICE_KINDS.known}.")],
    address: Annotated[str, typer.Argument(help="Depends on the kind: serial number, HOST:PORT or file.")] = "",
    url: Url = "http://127.0.0.1:8000",
    token: Token = None,
    home: Home = Path("var/agent"),
) -> None:
    """Measure on one device of any kind, including kinds from plugins."""
    device = DEVICE_KINDS.get_or_raise(kind)(home, address)
    _serve(Agent(url, device, home, token or local_token(url, home)))


@app.command()
def replay(
    trace: Annotated[Path, typer.Argument(help="Recorded runs, see device_agents/devices/replay.py.")],
    url: Url = "http://127.0.0.1:8000",
    token: Token = None,
    home: Home = Path("var/replay-agent"),
) -> None:
    """Play recorded measurements: tests and demos without hardware."""
    _serve(Agent(url, ReplayDevice.load(trace), home, token or local_token(url, home)))


def _serve(agent: Agent) -> None:
    """Runs until drained. A second signal ends at once; the lease then runs out and the job goes to another agent."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(130) if agent.stopping.is_set() else agent.drain())
    agent.run()
