"""A quantized model in eager torch, run as its program runs on a device: in chunks, with states in a table."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nas.export.backends import BACKENDS, DEFAULT_BACKEND
from nas.export.modules import DeployedModel, MixerBlock
from nas.export.stages import MAX_CHUNK
from search_space.arch import ArchConfig
from search_space.modeling.ops import StateTable, active


class EagerProgram:
    """``quantized`` is a model whose weights its backend has already quantized. Every call begins with empty states."""

    def __init__(
        self, quantized: DeployedModel, arch: ArchConfig, backend: str = DEFAULT_BACKEND, cache_dtype: str = "fp32"
    ) -> None:
        model = BACKENDS[backend].reference(quantized)
        assert isinstance(model, DeployedModel)
        self._model, self._cache_dtype = model, cache_dtype
        self._states = [state for layer in arch.layers for state in layer.mixer.states(arch.d_model)]

    def last_logits(self, tokens: Sequence[int], chunks: Sequence[int]) -> Tensor:
        """Logits of the last token of every chunk, [len(chunks), V]."""
        ids_T = torch.tensor(list(tokens[: sum(chunks)]))
        return torch.stack([logits_TV[-1] for logits_TV in self._chunks(ids_T, chunks, whole=False)])

    def logits(self, ids_T: Tensor) -> Tensor:
        """Logits after every token, [T, V]."""
        full, rest = divmod(len(ids_T), MAX_CHUNK)
        return torch.cat(self._chunks(ids_T, [MAX_CHUNK] * full + [rest] * (rest > 0), whole=True))

    @torch.no_grad()
    def _chunks(self, ids_T: Tensor, chunks: Sequence[int], whole: bool) -> list[Tensor]:
        table = StateTable(self._cache_dtype)
        slots = torch.tensor([table.add(spec, len(ids_T)) for spec in self._states] or [0], dtype=torch.int64)
        found, position = [], 0
        with active(table):
            for size in chunks:
                ids_1T = ids_T[None, position : position + size].cpu()
                x = self._hidden(ids_1T, slots, torch.tensor([position]))
                found.append(self._model.head(x if whole else x[:, -1:])[0])
                position += size
        return found

    def _hidden(self, ids_1T: Tensor, slots: Tensor, pos: Tensor) -> Tensor:
        x: Tensor = self._model.embedding(ids_1T)
        for step in self._model.steps:
            x = step(x, slots, pos) if isinstance(step, MixerBlock) else step(x)
        return x
