"""``hilnas serve``: the coordinator with its dashboard."""

from __future__ import annotations

import contextlib
import fcntl
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
import uvicorn
from fastapi import FastAPI
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from foundation.errors import InvalidConfig
from server.app import create_app
from server.settings import Settings, is_loopback

app = typer.Typer(help="Start the coordinator (API and dashboard).", add_completion=False)
GRACE_S = 3  # open event streams and long polls are cut after this: clients reconnect by themselves


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to bind; not loopback switches tokens on.")] = None,
    port: Annotated[int | None, typer.Option(help="Default 8000, or HILNAS_PORT.")] = None,
    var: Annotated[Path | None, typer.Option(help="Database, artifacts and block library; default var.")] = None,
) -> None:
    """Start the coordinator (API and dashboard). Options win over HILNAS_* variables."""
    settings = with_options(Settings.from_environment(), host, port, var)
    with listening_socket(settings.host, settings.port) as listener, exclusive_folder(settings.var):
        config = uvicorn.Config(open_app(settings), timeout_graceful_shutdown=GRACE_S, log_level="warning")
        uvicorn.Server(config).run(sockets=[listener])


def listening_socket(host: str, port: int) -> socket.socket:
    """Binds before anything else is opened: a second coordinator must not touch the studies of the first."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise InvalidConfig(
            f"cannot listen on {host} port {port} ({error.strerror}); choose another with --host and --port"
        ) from error
    return listener


@contextlib.contextmanager
def exclusive_folder(var: Path) -> Iterator[None]:
    """Two coordinators on one folder would both run its studies. The lock ends with the process, however it ends."""
    try:
        var.mkdir(parents=True, exist_ok=True)
        lock = (var / "coordinator.lock").open("w")
    except OSError as error:
        raise InvalidConfig(f"cannot use {var} ({error.strerror}); choose another folder with --var") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InvalidConfig(
                f"another coordinator already works in {var}; stop it or choose another folder with --var"
            ) from None
        yield


def open_app(settings: Settings) -> FastAPI:
    """The app. Raises InvalidConfig for a folder or database that cannot be opened."""
    try:
        return create_app(settings)
    except OSError as error:
        raise InvalidConfig(
            f"cannot use {settings.var} ({error.strerror}); choose another folder with --var"
        ) from error
    except OperationalError as error:
        url = make_url(settings.url).render_as_string(hide_password=True)
        raise InvalidConfig(f"cannot open the database {url}: {error.orig}") from error


def with_options(settings: Settings, host: str | None, port: int | None, var: Path | None) -> Settings:
    given = {"host": host, "port": port, "var": var}
    changes = {name: value for name, value in given.items() if value is not None}
    if host is not None and not is_loopback(host):
        changes["auth"] = "tokens"
    return Settings.model_validate({**settings.model_dump(), **changes})
