"""The reference that a device must reproduce: a candidate's chain in eager torch, quantized as exported."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from nas.export.backends import BACKENDS, DEFAULT_BACKEND
from nas.export.blocks import BlockSpec, PlacedBlock, blocks_of, build_block
from search_space.arch import ArchConfig
from search_space.modeling.ops import StateTable, active
from search_space.states import state_from_plan


class EagerChain:
    """Runs candidates in eager torch; blocks are built once and kept in an LRU cache."""

    def __init__(self, max_blocks: int = 48) -> None:
        self._blocks: OrderedDict[BlockSpec, nn.Module] = OrderedDict()
        self._max_blocks = max_blocks

    def block(self, spec: BlockSpec) -> nn.Module:
        if spec not in self._blocks:
            backend = BACKENDS[spec.backend]
            self._blocks[spec] = backend.reference(backend.quantize(build_block(spec), spec.quantization))
            while len(self._blocks) > self._max_blocks:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(spec)
        return self._blocks[spec]

    @torch.no_grad()
    def logits(
        self,
        arch: ArchConfig,
        quantization: str,
        tokens: list[int],
        chunks: list[int],
        cache_dtype: str = "fp32",
        backend: str = DEFAULT_BACKEND,
    ) -> Tensor:
        """Last-token logits of every chunk, [len(chunks), V], starting from an empty context."""
        chain = blocks_of(arch, quantization, backend)
        table = StateTable(cache_dtype)
        slots = {placed.name: _slots(table, placed, sum(chunks)) for placed in chain}
        rows, position = [], 0
        with active(table):
            for size in chunks:
                ids = torch.tensor([tokens[position : position + size]])
                rows.append(self._pass(chain, ids, slots, position))
                position += size
        return torch.stack(rows)

    def _pass(self, chain: list[PlacedBlock], ids: Tensor, slots: dict[str, Tensor], position: int) -> Tensor:
        x, pos = ids, torch.tensor([position])
        for placed in chain:
            block = self.block(placed.spec)
            if placed.spec.role == "mixer":
                x = block(x, slots[placed.name], pos)
            elif placed.spec.role == "head":
                x = block(x[:, -1:])
            else:
                x = block(x)
        return x[0, 0]


def _slots(table: StateTable, placed: PlacedBlock, capacity: int) -> Tensor:
    specs = [state_from_plan(state.model_dump()) for state in placed.states]
    return torch.tensor([table.add(spec, capacity) for spec in specs], dtype=torch.int64)
