"""A parent in one file of a few megabytes: weights as int8 rows, learnt blocks, text in its tokens, its tokenizer.

The file is safetensors; its metadata ``parent`` is JSON. Matrices are int8 with one float32 scale for each row, vectors
and short rows float16. The rounded weights are the parent: digests and errors are those of what is read back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from foundation.errors import InvalidConfig
from foundation.files import atomic_path
from nas.parent.alternatives import Alternative, as_inherited, start
from nas.parent.learn import BlockStore, LearntBlock, given_key
from nas.parent.store import ParentText
from search_space.arch import ArchConfig
from search_space.modeling.model import HilnasForCausalLM, build_model

FILES = Path(__file__).with_name("packaged_files")
SCALE, LARGEST, SHORTEST_ROW = ".scale", 127, 32
Weights = Mapping[str, Tensor]
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class PackagedParent:
    """``blocks`` hold no weights for windows over the parent's heads, which are the parent's. ``about`` says where
    weights and text come from: ``origin`` and a list ``texts`` with source, licence and holder of each."""

    arch: ArchConfig
    weights: Weights
    blocks: dict[Alternative, tuple[LearntBlock, Weights]]
    text: ParentText
    tokenizer: str
    about: dict[str, Any]

    def model(self) -> HilnasForCausalLM:
        """In float32."""
        model = build_model(self.arch)
        missing, unexpected = model.load_state_dict(dict(self.weights), strict=False)
        if unexpected or set(missing) - {"lm_head.weight"}:
            raise InvalidConfig(f"the file's weights do not fit its architecture: {[*missing, *unexpected][0]}")
        model.tie_weights()
        return model.eval()

    @property
    def given(self) -> str:
        """sha256 over all blocks and their weights."""
        total = hashlib.sha256()
        for alternative, (_, weights) in self.blocks.items():
            total.update(json.dumps(alternative.to_dict(), sort_keys=True).encode())
            for name, value in sorted(weights.items()):
                total.update(name.encode() + value.contiguous().numpy().tobytes())
        return total.hexdigest()

    def put_blocks(self, store: BlockStore, model: HilnasForCausalLM, parent: str) -> None:
        """All blocks under the keys of those that came with the parent of digest ``parent``."""
        for alternative, (block, weights) in self.blocks.items():
            key = given_key(parent, alternative)
            store.put(replace(block, key=key), dict(weights or inherited(alternative, model)))

    def save(self, path: Path) -> None:
        told = {
            "arch": self.arch.to_dict(), "about": self.about, "tokenizer": self.tokenizer,
            "blocks": [asdict(block) for block, _ in self.blocks.values()],
        }  # fmt: skip
        arrays = rounded({f"parent:{name}": value for name, value in self.weights.items()})
        for index, (_, weights) in enumerate(self.blocks.values()):
            arrays |= rounded({f"block.{index}:{name}": value for name, value in weights.items()})
        arrays |= {f"text:{name}": values for name, values in vars(self.text).items()}
        with atomic_path(path) as partial:
            save_file(arrays, partial, {"parent": json.dumps(told)})

    @classmethod
    def load(cls, path: Path) -> PackagedParent:
        """Raises InvalidConfig for a file that is none of ours."""
        try:
            with safe_open(path, "np") as file:
                told = json.loads(file.metadata()["parent"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, KeyError, TypeError, SafetensorError) as error:
            raise InvalidConfig(f"{path.name} holds no packaged parent: {error}") from None
        blocks: dict[Alternative, tuple[LearntBlock, Weights]] = {}
        for index, fields in enumerate(told["blocks"]):
            block = LearntBlock(**fields)
            blocks[Alternative.from_dict(block.alternative)] = (block, restored(arrays, f"block.{index}:"))
        text = ParentText(*(arrays[f"text:{name}"] for name in ("train", "held_out", "num_bytes")))
        arch = ArchConfig.from_dict(told["arch"])
        return cls(arch, restored(arrays, "parent:"), blocks, text, told["tokenizer"], told["about"])


def packaged_names() -> list[str]:
    return sorted(path.stem for path in FILES.glob("*.safetensors"))


def packaged(name: str) -> PackagedParent:
    """Raises InvalidConfig naming those that there are."""
    if name not in packaged_names():
        raise InvalidConfig(f"unknown packaged parent {name!r}; known: {', '.join(packaged_names()) or 'none'}")
    return PackagedParent.load(FILES / f"{name}.safetensors")


def inherited(alternative: Alternative, model: HilnasForCausalLM) -> dict[str, Tensor]:
    """The weights of a block that is the parent's as it stands. Raises InvalidConfig for one that must be learnt."""
    arch = model.config.to_arch()
    if not as_inherited(alternative, arch.layers[alternative.layer]):
        raise InvalidConfig(f"layer {alternative.layer}: the file holds no weights for {alternative.label}")
    return start(alternative, model.model.layers[alternative.layer], arch).state_dict()  # type: ignore[arg-type]


def rounded(weights: Weights) -> Arrays:
    """Matrices [..., N] as int8 and ``<name>.scale`` [..., 1] in float32, the rest in float16."""
    found: Arrays = {}
    for name, value in weights.items():
        if value.dim() < 2 or value.shape[-1] < SHORTEST_ROW:
            found[name] = value.detach().half().numpy()
            continue
        rows = value.detach().float().numpy()
        scale = np.maximum(np.abs(rows).max(-1, keepdims=True) / np.float32(LARGEST), np.float32(1e-12))
        found[name] = np.rint(rows / scale).astype(np.int8)
        found[name + SCALE] = scale
    return found


def restored(arrays: Arrays, prefix: str = "") -> dict[str, Tensor]:
    """The float32 weights whose names begin with ``prefix``, without it."""
    found = {}
    for name, value in arrays.items():
        if name.startswith(prefix) and not name.endswith(SCALE):
            whole = value.astype(np.float32)
            if name + SCALE in arrays:
                whole *= arrays[name + SCALE]
            found[name.removeprefix(prefix)] = torch.from_numpy(whole)
    return found
