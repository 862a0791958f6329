"""Tokenized text in memory: what a candidate trains on, and what it is judged by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foundation.errors import InvalidConfig


@dataclass(frozen=True)
class TextData:
    """Two streams of token ids, from different documents, and the bytes that each token spells (0: a marker)."""

    train: NDArray[np.uint16]
    held_out: NDArray[np.uint16]
    num_bytes: NDArray[np.int32]

    @property
    def vocab_size(self) -> int:
        return len(self.num_bytes)

    def save(self, path: Path) -> None:
        with path.open("wb") as file:
            np.savez_compressed(file, train=self.train, held_out=self.held_out, num_bytes=self.num_bytes)

    @classmethod
    def load(cls, path: Path) -> TextData:
        """Raises InvalidConfig for a file that is absent or has other contents."""
        try:
            with path.open("rb") as file, np.load(file) as arrays:
                return cls(arrays["train"], arrays["held_out"], arrays["num_bytes"])
        except (OSError, KeyError, ValueError) as error:
            raise InvalidConfig(
                f"{path.name} holds no tokenized text ({error}); give a file written by TextData.save"
            ) from None

    def unigram_bits(self) -> float:
        """Bits per byte on the held-out stream of a model that knows only how frequent each token is."""
        counts = np.bincount(self.train, minlength=self.vocab_size) + 1.0
        nats = -np.log(counts / counts.sum())[self.held_out].sum()
        return float(nats / math.log(2) / max(1, self.num_bytes[self.held_out].sum()))


class TextTensors:
    """``TextData`` on a device, served as rows of ``length + 1`` tokens. Rows go on across the ends of documents."""

    def __init__(self, data: TextData, length: int, device: str) -> None:
        rows = {"training": len(data.train) - 1, "held-out": len(data.held_out) - 1}
        if short := [name for name, tokens in rows.items() if tokens < length]:
            raise InvalidConfig(
                f"the {short[0]} text has {rows[short[0]] + 1} tokens, too few for one row of {length}; give more text"
            )
        self.length, self.device = length, device
        self.train = torch.from_numpy(data.train.astype(np.int32)).to(device)
        self.held_out = torch.from_numpy(data.held_out.astype(np.int32)).to(device)
        self.num_bytes = torch.from_numpy(data.num_bytes.astype(np.int64)).to(device)
        self._offsets = torch.arange(length + 1, device=device)

    def order(self, num_rows: int, seed: int) -> Tensor:
        """The first token of ``num_rows`` training rows: every row once before any is repeated, shuffled by seed."""
        starts = torch.arange((len(self.train) - 1) // self.length) * self.length
        generator = torch.Generator().manual_seed(seed)
        passes = -(-num_rows // len(starts))
        shuffled = [starts[torch.randperm(len(starts), generator=generator)] for _ in range(passes)]
        return torch.cat(shuffled)[:num_rows].to(self.device)

    def training_rows(self, starts: Tensor) -> Tensor:
        """[rows, length + 1]."""
        return self.train[starts[:, None] + self._offsets].long()

    def held_out_rows(self, num_rows: int) -> Tensor:
        """[rows, length + 1], spread over the whole stream, always the same."""
        there = (len(self.held_out) - 1) // self.length
        picked = torch.linspace(0, there - 1, min(num_rows, there), device=self.device).long() * self.length
        return self.held_out[picked[:, None] + self._offsets].long()
