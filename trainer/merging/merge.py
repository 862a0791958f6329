"""Merges directories: compares them, streams tensor by tensor, and leaves a directory that transformers loads, with a
record of what went in."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foundation.errors import InvalidConfig
from foundation.files import atomic_folder
from trainer.merging.agreement import agree
from trainer.merging.checkpoint import INDEX, Checkpoint, TensorInfo
from trainer.merging.methods import name_of
from trainer.merging.methods.base import Merge
from trainer.merging.writer import TORCH_DTYPES, write_index, write_shard

RECORD = "merge.json"
# what of a directory besides its weights makes it loadable
COMPANIONS = (
    "config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*",
    "merges.txt", "chat_template*", "preprocessor_config.json",
)  # fmt: skip


def merge(
    method: Merge,
    models: Sequence[Path],
    out: Path,
    base: Path | None = None,
    progress: Callable[[float, str], None] = lambda *_: None,
) -> dict[str, Any]:
    """Writes ``out`` (which must not exist) and returns its record, also kept there as ``merge.json``.

    Configuration, tokenizer, sharding and dtypes are those of ``base``, without one those of the first model.
    Arithmetic is float32 (float64 where a tensor is); memory is one tensor of each model. Raises InvalidConfig with a
    sentence when the inputs do not fit; ``out`` appears only when it is whole.
    """
    method.check(len(models))
    if method.needs_base and base is None:
        raise InvalidConfig(f"{name_of(method)} adds differences to a base: give the model that all others came from")
    if out.exists():
        raise InvalidConfig(f"{out} exists; give a directory that does not")
    given = [*([base] if base is not None else []), *models]
    checkpoints = [Checkpoint(folder) for folder in given]
    agree(checkpoints)
    with atomic_folder(out) as partial:
        _write_weights(method, checkpoints, base is not None, partial, progress)
        _copy_companions(checkpoints[0].folder, partial)
        record = record_of(method, checkpoints, base is not None)
        (partial / RECORD).write_text(json.dumps(record, indent=1) + "\n")
    return record


def merge_tensor(method: Merge, name: str, values: Sequence[Tensor], with_base: bool) -> Tensor:
    """``values`` are one tensor of base (if any) and models, in the dtype of the arithmetic."""
    base, models = (values[0], values[1:]) if with_base else (None, values)
    shape = models[0].shape
    return method.merge(base if method.needs_base else None, models, lambda i: uniform(method.seed, i, name, shape))


def uniform(seed: int, index: int, name: str, shape: Sequence[int]) -> Tensor:
    """Numbers in [0, 1) of model ``index`` and tensor ``name``: the same however the files are sharded or ordered."""
    digest = hashlib.sha256(f"{seed}/{index}/{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
    return torch.rand(tuple(shape), generator=generator)


def record_of(method: Merge, checkpoints: Sequence[Checkpoint], with_base: bool) -> dict[str, Any]:
    """What reproduces the result: inputs by content, method, parameters."""
    inputs = [{"name": checkpoint.name, "sha256": checkpoint.digests()} for checkpoint in checkpoints]
    return {
        "method": name_of(method),
        "parameters": asdict(method),
        "base": inputs[0] if with_base else None,
        "models": inputs[1:] if with_base else inputs,
        "num_tensors": len(checkpoints[0].tensors),
        "torch": torch.__version__,
    }


def _write_weights(
    method: Merge,
    checkpoints: Sequence[Checkpoint],
    with_base: bool,
    out: Path,
    progress: Callable[[float, str], None],
) -> None:
    template = checkpoints[0]
    done = 0

    def produce(name: str) -> Tensor:
        nonlocal done
        done += 1
        progress(done / len(template.tensors), name)
        return _merged(method, name, template.tensors[name], checkpoints, with_base)

    for shard in template.shards:
        held = {name: info for name, info in template.tensors.items() if info.shard == shard}
        if held:
            write_shard(out / shard, held, produce)
    if (template.folder / INDEX).exists():
        write_index(out, template.tensors)


def _merged(
    method: Merge, name: str, info: TensorInfo, checkpoints: Sequence[Checkpoint], with_base: bool
) -> Tensor:
    if not info.is_float:  # compared beforehand: all are equal
        return checkpoints[0].read(name)
    values = [checkpoint.read(name) for checkpoint in checkpoints]
    for checkpoint, value in zip(checkpoints, values, strict=True):
        if not torch.isfinite(value).all():
            raise InvalidConfig(f"{name} of {checkpoint.name} holds NaN or infinity; a merge would spread it")
    dtype = reduce(torch.promote_types, (value.dtype for value in values), torch.float32)
    merged = merge_tensor(method, name, [value.to(dtype) for value in values], with_base).to(TORCH_DTYPES[info.dtype])
    if not torch.isfinite(merged).all():
        raise InvalidConfig(f"{name} leaves the range of {info.dtype} when merged; smaller weights would keep it there")
    return merged


def _copy_companions(source: Path, out: Path) -> None:
    for pattern in COMPANIONS:
        for path in source.glob(pattern):
            if path.is_file():
                shutil.copyfile(path, out / path.name)
