"""What every sublayer of a parent reads and adds on calibration text, kept in memory-mapped files of a bounded size."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foundation.errors import InvalidConfig
from foundation.files import atomic_folder
from nas.parent.alternatives import PARTS, Part, contribution, positions
from search_space.modeling.model import HilnasForCausalLM

MAX_BYTES = 8 * 2**30
META = "meta.json"
LARGEST = 6e4  # float16 ends at 65,504


@dataclass(frozen=True)
class Activations:
    """A folder with ``<layer>.<part>.<in|out>.npy`` of shape [rows, length, d_model] in float16."""

    folder: Path
    parent: str
    text: str

    @property
    def digest(self) -> str:
        """Of the parent and the text that it read."""
        return hashlib.sha256(f"{self.parent} {self.text}".encode()).hexdigest()[:24]

    def pair(self, layer: int, part: Part) -> tuple[NDArray[Any], NDArray[Any]]:
        """Inputs and outputs of one sublayer, mapped and not read."""
        names = (self.folder / f"{layer}.{part}.{side}.npy" for side in ("in", "out"))
        first, second = (np.load(name, mmap_mode="r") for name in names)
        return first, second


def parent_digest(model: HilnasForCausalLM) -> str:
    """sha256 over the architecture and every weight."""
    total = hashlib.sha256(model.config.to_arch().digest.encode())
    for name, value in sorted(model.state_dict().items()):
        total.update(name.encode() + value.detach().float().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def num_bytes(model: HilnasForCausalLM, num_tokens: int) -> int:
    arch = model.config.to_arch()
    return num_tokens * arch.d_model * 2 * 2 * len(PARTS) * arch.depth


def collect(
    model: HilnasForCausalLM, rows_RT: NDArray[Any], folder: Path, at_once: int = 8, max_bytes: int = MAX_BYTES
) -> Activations:
    """One pass over ``rows_RT`` token ids; a folder that holds this parent's pass over this text is used as it is.

    Raises InvalidConfig when the files would be larger than ``max_bytes``, before anything is written.
    """
    text = hashlib.sha256(np.ascontiguousarray(rows_RT, np.int64).tobytes() + str(rows_RT.shape).encode()).hexdigest()
    kept = Activations(folder, parent_digest(model), text)
    if (folder / META).exists() and json.loads((folder / META).read_text()) == _meta(kept):
        return kept
    needed = num_bytes(model, rows_RT.size)
    if needed > max_bytes:
        fits = rows_RT.size * max_bytes // needed
        raise InvalidConfig(
            f"activations of {rows_RT.size} tokens take {needed / 2**30:.1f} GiB, more than {max_bytes / 2**30:.1f};"
            f" {fits} tokens fit"
        )
    with atomic_folder(folder) as partial:
        _write(model.eval(), rows_RT, partial, at_once)
        (partial / META).write_text(json.dumps(_meta(kept)))
    return kept


def _meta(kept: Activations) -> dict[str, str]:
    return {"parent": kept.parent, "text": kept.text}


@torch.no_grad()
def _write(model: HilnasForCausalLM, rows_RT: NDArray[Any], folder: Path, at_once: int) -> None:
    device, shape = next(model.parameters()).device, (*rows_RT.shape, model.config.d_model)
    for first in range(0, len(rows_RT), at_once):
        ids_BT = torch.as_tensor(np.asarray(rows_RT[first : first + at_once], np.int64), device=device)
        x_BTD = model.model.embed_tokens(ids_BT) * model.model.embedding_multiplier
        for index, layer in enumerate(model.model.layers):
            for part in PARTS:
                added_BTD = contribution(layer, part, x_BTD, positions(x_BTD))  # type: ignore[arg-type]
                for side, values in (("in", x_BTD), ("out", added_BTD)):
                    _put(folder / f"{index}.{part}.{side}.npy", shape, first, values)
                x_BTD = x_BTD + added_BTD


def _put(path: Path, shape: tuple[int, ...], first: int, values_BTD: Tensor) -> None:
    if not bool((values_BTD.abs() < LARGEST).all()):
        raise InvalidConfig(
            f"an activation of {path.stem} exceeds {LARGEST:.0f} or is no number, which float16 cannot hold; give"
            " another calibration text or a parent with finite outputs"
        )
    if path.exists():
        mapped = np.lib.format.open_memmap(path, mode="r+")
    else:
        mapped = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
    mapped[first : first + len(values_BTD)] = values_BTD.to(torch.float16).cpu().numpy()
