"""Getting an enrolment token when none is given."""

from __future__ import annotations

import contextlib
from pathlib import Path

from contracts.http import RestClient
from foundation.errors import HilnasError


def local_token(url: str, home: Path) -> str | None:
    """A token from a coordinator in local single-user mode, which gives one to any process on its machine."""
    if (home / "credential.json").exists():
        return None
    with contextlib.suppress(HilnasError, KeyError, TypeError, ValueError):
        return str(RestClient(url, timeout_s=10.0).post("/devices/tokens", {"serves": ["measure"]})["token"])
    return None
