"""The processes of a run: torchrun's environment read once, a group where there are several, the model sharded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard


@dataclass(frozen=True)
class Processes:
    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Over all processes, in every process."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def wait(self) -> None:
        if self.world > 1:
            dist.barrier()


def alone(device: str | None = None) -> Processes:
    return Processes(0, 1, torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))


@contextmanager
def joined() -> Iterator[Processes]:
    """What torchrun or Ray started: gloo on CPUs, NCCL on GPUs. Without either, one process."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield alone()
        return
    cuda = torch.cuda.is_available()
    device = torch.device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if cuda else "cpu")
    if cuda:
        torch.cuda.set_device(device)
    ours = not dist.is_initialized()  # Ray makes the group before, and ends it
    if ours:
        dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Processes(dist.get_rank(), world, device)
    finally:
        if ours:
            dist.destroy_process_group()


def shard(model: nn.Module, processes: Processes) -> nn.Module:
    """FSDP2: a group per layer, the rest (tied embedding and head together) in the root's. Before the optimizer is
    made, because its state must be of the shards."""
    model.to(processes.device)
    if processes.world > 1:
        for layer in model.model.layers:  # type: ignore[union-attr]
            fully_shard(layer)  # type: ignore[arg-type]
        fully_shard(model)
    return model


def synchronize_gradients(model: nn.Module, last: bool) -> None:
    """Gradients travel once a step, after its last micro-batch."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(last)
