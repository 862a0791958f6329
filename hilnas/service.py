"""A coordinator and an agent of this machine as child processes, for what needs a whole study."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from contracts.http import RestClient
from hilnas.demo import running, wait_until_up


@contextmanager
def local_service(var: Path, port: int) -> Iterator[RestClient]:
    """Everything it keeps is in ``var``; both end with the block."""
    url = f"http://127.0.0.1:{port}"
    rest = RestClient(url)
    with running("coordinator", ["serve", "--port", str(port), "--var", str(var)], var) as coordinator:
        wait_until_up(rest, coordinator, var / "coordinator.log")
        with running("agent", ["agent", "host", "--url", url, "--home", str(var / "agent")], var):
            yield rest
