"""Every block of a space around a parent, learned by several processes before a search asks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from functools import lru_cache

import torch

from foundation.measurement_lock import MeasurementLock
from foundation.workers import worker_pool
from nas.parent.alternatives import Alternative, alternatives_of
from nas.parent.learn import LearnSettings, LearntBlock, learn_all
from nas.parent.store import Parent
from search_space.modeling.model import HilnasForCausalLM
from search_space.parents import parent_arch
from search_space.space.around import KERNELS, SHARES, WINDOWS, ffn_choices, mixer_choices

Learnt = tuple[Alternative, LearntBlock]
OnBlock = Callable[[Alternative, LearntBlock], None]


def all_alternatives(
    parent: str, windows: Sequence[int] = WINDOWS, kernels: Sequence[int] = KERNELS, shares: Sequence[float] = SHARES
) -> list[Alternative]:
    """What may stand in for the sublayers of a parent in its space, but for nothing at all."""
    found = []
    for index, layer in enumerate(parent_arch(parent).layers):
        mixers, ffns = mixer_choices(layer.mixer, windows, kernels), ffn_choices(layer.ffn, shares)
        found += [one for one in alternatives_of(index, mixers, ffns) if not one.absent]
    return found


def learn_blocks(
    parent: str, alternatives: Sequence[Alternative], settings: LearnSettings, calibration: tuple[int, int],
    processes: int = 1, on_block: OnBlock = lambda *_: None,
) -> None:  # fmt: skip
    """Fills the parent's block store; what it has is not learned again. ``calibration``: length and number of rows.

    Blocks of one sublayer stay together, since they read the same activations.
    """
    _opened(parent).activations(_model(parent), *calibration)  # once, before many want it
    places: dict[tuple[int, str], list[Alternative]] = {}
    for one in alternatives:
        places.setdefault((one.layer, one.part), []).append(one)
    with worker_pool(processes) as pool:
        try:
            jobs = [pool.submit(_learn, parent, group, settings, calibration) for group in places.values()]
            for job in as_completed(jobs):
                for alternative, block in job.result():
                    on_block(alternative, block)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _learn(
    parent: str, group: list[Alternative], settings: LearnSettings, calibration: tuple[int, int]
) -> list[Learnt]:
    torch.set_num_threads(1)
    opened, model = _opened(parent), _model(parent)
    activations = opened.activations(model, *calibration)
    learned = learn_all(model, group, activations, opened.blocks, settings, MeasurementLock().shared)
    return list(learned.items())


@lru_cache(maxsize=1)
def _opened(parent: str) -> Parent:
    return Parent(parent)


@lru_cache(maxsize=1)
def _model(parent: str) -> HilnasForCausalLM:
    return _opened(parent).model()
