"""A Hugging Face directory as named tensors: shards, shapes and dtypes known from the headers, values read one at a
time."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from foundation.errors import InvalidConfig

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
# bytes per element of safetensors' dtypes; floating ones take part in the arithmetic
FLOAT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
OTHER_BYTES = {"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
DTYPE_BYTES = FLOAT_BYTES | OTHER_BYTES
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@dataclass(frozen=True)
class TensorInfo:
    shape: tuple[int, ...]
    dtype: str
    shard: str

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOAT_BYTES

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * DTYPE_BYTES[self.dtype]


class Checkpoint:
    """``tensors`` in the order of the files. Raises InvalidConfig with a sentence for anything that cannot be read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = self._json("config.json")
        self.tensors = {name: info for shard in self.shards for name, info in self._header(shard).items()}
        self._check_index()

    @property
    def name(self) -> str:
        return self.folder.name or str(self.folder)

    @cached_property
    def shards(self) -> tuple[str, ...]:
        if (self.folder / INDEX).exists():
            return tuple(sorted(set(self._weight_map.values())))
        if (self.folder / SINGLE).exists():
            return (SINGLE,)
        raise InvalidConfig(f"{self.folder} holds no {SINGLE} and no {INDEX}; give a Hugging Face directory")

    @property
    def ties_head(self) -> bool:
        """Whether the head is the embedding, stored twice or once; the configuration may say otherwise."""
        if self.config.get("tie_word_embeddings") is False:
            return False
        if HEAD not in self.tensors:
            return True
        same_shape = EMBEDDING in self.tensors and self.tensors[HEAD].shape == self.tensors[EMBEDDING].shape
        return same_shape and bool((self.read(HEAD) == self.read(EMBEDDING)).all())

    def read(self, name: str) -> Tensor:
        """One tensor in its own dtype, from a memory map that is let go again."""
        shard = self.tensors[name].shard
        try:
            with safe_open(self.folder / shard, framework="pt") as file:
                return file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise InvalidConfig(f"{self.folder / shard} cannot be read: {error}") from None

    def digests(self) -> dict[str, str]:
        """sha256 of every weight file."""
        return {shard: _sha256(self.folder / shard) for shard in self.shards}

    @cached_property
    def _weight_map(self) -> dict[str, str]:
        """Tensor -> shard as the index promises it; empty without an index."""
        if not (self.folder / INDEX).exists():
            return {}
        weight_map = self._json(INDEX).get("weight_map")
        if not isinstance(weight_map, dict):
            raise InvalidConfig(f"{self.folder / INDEX} has no weight_map")
        for shard in weight_map.values():
            if not isinstance(shard, str) or Path(shard).name != shard:
                raise InvalidConfig(f"{self.folder / INDEX} names {shard!r}; shards lie beside their index")
        return weight_map

    def _check_index(self) -> None:
        for name, shard in self._weight_map.items():
            if name not in self.tensors or self.tensors[name].shard != shard:
                raise InvalidConfig(f"{self.folder / INDEX} promises {name} in {shard}: not there")
        if not self.tensors:
            raise InvalidConfig(f"{self.folder} holds no tensors")

    def _json(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        try:
            value = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise InvalidConfig(f"{path} cannot be read: {error}") from None
        if not isinstance(value, dict):
            raise InvalidConfig(f"{path} is no JSON object")
        return value

    def _header(self, shard: str) -> dict[str, TensorInfo]:
        path = self.folder / shard
        try:
            with open(path, "rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                if length > path.stat().st_size:
                    raise ValueError("its header is longer than the file")
                entries = json.loads(file.read(length))
            entries.pop("__metadata__", None)
            by_place = sorted(entries.items(), key=lambda entry: entry[1]["data_offsets"])
            found = {name: TensorInfo(tuple(e["shape"]), e["dtype"], shard) for name, e in by_place}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
            raise InvalidConfig(f"{path} is no whole safetensors file: {error}") from None
        self._check_size(path, 8 + length, found)
        return found

    def _check_size(self, path: Path, start: int, found: dict[str, TensorInfo]) -> None:
        for name, info in found.items():
            if info.dtype not in DTYPE_BYTES:
                known = ", ".join(DTYPE_BYTES)
                raise InvalidConfig(f"{name} in {path} has dtype {info.dtype}; merging reads {known}")
        expected, actual = start + sum(info.num_bytes for info in found.values()), path.stat().st_size
        if actual != expected:
            raise InvalidConfig(f"{path} has {actual} bytes, its header promises {expected}; copy or save it again")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
