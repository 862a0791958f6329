"""As many threads as are quick just now: on cores that others use, threads that wait for each other cost ten times."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from search_space.modeling.model import HilnasForCausalLM


@contextmanager
def quick_threads(model: HilnasForCausalLM) -> Iterator[None]:
    """One thread or all that torch has, whichever multiplies sooner; numbers change by rounding only."""
    before = torch.get_num_threads()
    if before > 1 and next(model.parameters()).device.type == "cpu":
        torch.set_num_threads(min((before, 1), key=_seconds))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _seconds(threads: int) -> float:
    """Milliseconds where cores are free: a forward pass of the model would itself take seconds where they are not."""
    torch.set_num_threads(threads)
    left, right = torch.ones(512, 256), torch.ones(256, 512)
    left @ right
    start = time.perf_counter()
    for _ in range(10):
        left @ right
    return time.perf_counter() - start
