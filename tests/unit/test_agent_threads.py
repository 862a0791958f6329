"""An agent refuses a plan with more threads than its device has cores."""

from __future__ import annotations

import pytest

from contracts.device import DeviceFacts
from contracts.plan import Cache, Plan, Protocol
from device_agents.agent import require_cores
from foundation.errors import InvalidConfig


@pytest.mark.parametrize(
    ("kind", "cores", "threads", "fits"),
    [
        ("host", 2, 2, True),
        ("host", 1, 2, True),
        ("host", 2, 64, False),
        ("host", 0, 64, True),
        ("replay", 2, 64, True),
    ],
)
def test_more_threads_than_cores(kind: str, cores: int, threads: int, fits: bool) -> None:
    facts = DeviceFacts(kind=kind, name="desk", model="m", arch="a", cores=cores, memory_bytes=1, os="o")
    protocol = Protocol(threads=threads)
    plan = Plan(id="p", chain=[], cache=Cache(capacity=8), hidden_size=8, vocab_size=8, tokens=[], protocol=protocol)
    if fits:
        require_cores(plan, facts)
        return
    with pytest.raises(InvalidConfig, match="desk has 2 cores, too few for 64 threads"):
        require_cores(plan, facts)
