"""Any candidate as ONNX: token ids [1, T] to logits [1, T, V], dynamic T; onnxruntime gives the same logits."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from foundation.errors import ExportFailed
from search_space.modeling.model import HilnasForCausalLM


class _Logits(nn.Module):
    def __init__(self, model: HilnasForCausalLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.model(input_ids, use_cache=False).logits


def export_onnx(model: HilnasForCausalLM, path: Path, example_length: int = 16) -> None:
    """Writes ``path`` (weights above 2 GB beside it). Raises ExportFailed."""
    vocab_size = model.config.vocab_size
    ids = torch.arange(example_length).remainder(vocab_size)[None]
    try:
        program = torch.onnx.export(
            _Logits(model.eval().float()), (ids,), input_names=["input_ids"], output_names=["logits"], dynamo=True,
            dynamic_shapes={"input_ids": {1: torch.export.Dim("T", min=2, max=32768)}}, verbose=False,
        )  # fmt: skip
        assert program is not None
        program.save(str(path), external_data=model.num_parameters() * 4 > 1_900_000_000)
    except Exception as error:  # the exporter raises exceptions of many kinds
        raise ExportFailed("onnx", f"{type(error).__name__}: {error}") from error
