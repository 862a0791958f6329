"""A safetensors file written tensor by tensor: the header is known beforehand, so only one value is in memory."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from trainer.merging.checkpoint import INDEX, TensorInfo

TORCH_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


def write_shard(path: Path, tensors: Mapping[str, TensorInfo], produce: Callable[[str], Tensor]) -> None:
    """``produce`` is asked for each tensor once, in order; its result must have the promised shape and dtype."""
    with open(path, "wb") as file:
        file.write(_header(tensors))
        for name, info in tensors.items():
            file.write(_bytes(produce(name), info))  # in one expression: no name keeps a value into the next round
        file.flush()
        os.fsync(file.fileno())


def _bytes(value: Tensor, info: TensorInfo) -> memoryview:
    assert tuple(value.shape) == info.shape and value.dtype == TORCH_DTYPES[info.dtype], info
    # numpy has no bfloat16, so all dtypes go as bytes; a scalar cannot be viewed as bytes, a row of one can
    return value.contiguous().reshape(-1).view(torch.uint8).numpy().data


def write_index(folder: Path, tensors: Mapping[str, TensorInfo]) -> None:
    total = sum(info.num_bytes for info in tensors.values())
    weight_map = {name: info.shard for name, info in sorted(tensors.items())}
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _header(tensors: Mapping[str, TensorInfo]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, info in tensors.items():
        end = start + info.num_bytes
        entries[name] = {"dtype": info.dtype, "shape": list(info.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
