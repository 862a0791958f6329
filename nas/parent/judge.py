"""A composed candidate reads held-out text beside its parent: bits per byte by position, divergence, paired difference.

Shape suffixes: R rows, T tokens, B rows at once, V vocabulary, D model width. T + 1 tokens give T predictions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Sequence as Rows
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t as student_t
from torch import Tensor

from foundation.errors import InvalidConfig
from nas.parent.learn import Turn
from search_space.modeling.model import HilnasForCausalLM

BIN_EDGES = (0, 64, 256, 512, 1024, 2048, 4096, 8192)


@dataclass(frozen=True)
class HeldOut:
    """Rows of token ids [R, T + 1], and the bytes that each id of the vocabulary stands for [V]."""

    rows: NDArray[Any]
    num_bytes: NDArray[Any]

    @classmethod
    def cut(cls, stream: NDArray[Any], num_bytes: NDArray[Any], length: int, count: int) -> HeldOut:
        """``count`` rows spread evenly over a stream of tokens. Raises InvalidConfig when it is shorter."""
        if len(stream) < count * length + 1:
            raise InvalidConfig(
                f"{count} rows of {length} tokens need {count * length + 1} held-out tokens, got {len(stream)};"
                f" {max(0, len(stream) - 1) // length} rows fit"
            )
        firsts = np.linspace(0, len(stream) - length - 1, count).astype(np.int64)
        return cls(np.asarray(stream)[firsts[:, None] + np.arange(length + 1)].astype(np.int64), num_bytes)

    def shorter(self, length: int) -> HeldOut:
        """The same text in rows of ``length`` tokens, which must divide the present length."""
        if self.length % length:
            raise InvalidConfig(f"rows of {self.length} tokens do not split into rows of {length}; give a divisor")
        firsts = np.arange(0, self.length, length)
        split_RKT = self.rows[:, firsts[:, None] + np.arange(length + 1)]
        return HeldOut(split_RKT.reshape(-1, length + 1), self.num_bytes)

    @property
    def length(self) -> int:
        return self.rows.shape[1] - 1

    @property
    def bytes_RT(self) -> NDArray[Any]:
        """Bytes of every predicted token."""
        return self.num_bytes[self.rows[:, 1:]].astype(np.float64)


@dataclass(frozen=True)
class Reading:
    """Nats of every predicted token [R, T], and the divergence from the parent at each (None for the parent itself)."""

    nats_RT: NDArray[Any]
    divergence_RT: NDArray[Any] | None = None


@torch.no_grad()
def final_hidden(model: HilnasForCausalLM, ids_BT: Tensor) -> Tensor:
    """Hidden states [B, T, D] after the final norm. On a GPU products are in float16, eight times finer than bfloat16,
    around a residual stream in float32: the divergence of what differs by rounding alone stays below 1e-5 nats."""
    with torch.autocast(ids_BT.device.type, torch.float16, enabled=ids_BT.is_cuda):
        return model.model(ids_BT).float()


class Reader:
    """The parent's side of a comparison, read once: its final hidden states are kept, so that a divergence costs one
    product with its head."""

    def __init__(self, parent: HilnasForCausalLM, text: HeldOut, at_once: int = 4, turn: Turn = nullcontext) -> None:
        self.parent, self.text, self.at_once, self.turn = parent.eval(), text, at_once, turn
        self._ids_RT = torch.as_tensor(text.rows, device=parent.device)
        self._hidden = [final_hidden(parent, ids_BT[:, :-1]) for ids_BT in self._ids_RT.split(at_once)]
        self.own = self._reading(parent, compared=False)

    def read(self, model: HilnasForCausalLM) -> Reading:
        return self._reading(model, compared=True)

    @torch.no_grad()
    def _reading(self, model: HilnasForCausalLM, compared: bool) -> Reading:
        nats, divergences = [], []
        for ids_BT, theirs_BTD in zip(self._ids_RT.split(self.at_once), self._hidden, strict=True):
            with self.turn():
                hidden_BTD = final_hidden(model, ids_BT[:, :-1]) if compared else theirs_BTD
                logprobs_BTV = model.lm_head(hidden_BTD).float().log_softmax(-1)
                nats.append(-logprobs_BTV.gather(-1, ids_BT[:, 1:, None]).squeeze(-1))
                if compared:
                    parent_BTV = self.parent.lm_head(theirs_BTD).float().log_softmax(-1)
                    divergences.append((parent_BTV.exp() * (parent_BTV - logprobs_BTV)).sum(-1))
        joined = torch.cat(nats).double().cpu().numpy()
        return Reading(joined, torch.cat(divergences).double().cpu().numpy() if compared else None)

    @torch.no_grad()
    def read_logits(self, logits_of: Callable[[Tensor], Tensor]) -> Reading:
        """What a program reads: ``logits_of`` gives [T, V] for ids [T], one row after the other."""
        nats = []
        for ids_T in self._ids_RT:
            with self.turn():
                logprobs_TV = logits_of(ids_T[:-1]).float().log_softmax(-1)
            nats.append(-logprobs_TV.gather(-1, ids_T[1:, None].to(logprobs_TV.device)).squeeze(-1))
        return Reading(torch.stack(nats).double().cpu().numpy())

    def bits_per_byte(self, reading: Reading) -> float:
        return float(reading.nats_RT.sum() / math.log(2) / self.text.bytes_RT.sum())

    def by_position(self, reading: Reading) -> dict[str, float]:
        """Bits per byte of the tokens at positions a to b, ``{"a-b": bits}``."""
        found, sizes = {}, self.text.bytes_RT
        for first, last in zip(BIN_EDGES, BIN_EDGES[1:], strict=False):
            if first < self.text.length:
                part = slice(first, min(last, self.text.length))
                bits = reading.nats_RT[:, part].sum() / math.log(2) / sizes[:, part].sum()
                found[f"{first}-{part.stop}"] = float(bits)
        return found

    def paired(self, reading: Reading, other: Reading | None = None) -> Difference:
        """``reading`` minus ``other`` (the parent's own) in bits per byte over the rows of the same text."""
        mean_bytes = self.text.bytes_RT.sum(1).mean()
        gap_RT = reading.nats_RT - (other or self.own).nats_RT
        return difference(gap_RT.sum(1) / math.log(2) / mean_bytes)


@dataclass(frozen=True)
class Difference:
    """A mean over rows with its 95 % interval; below 0 is better."""

    mean: float
    low: float
    high: float


def difference(values_R: NDArray[Any]) -> Difference:
    """Student's t over rows. Raises InvalidConfig for fewer than two: one row says nothing about others."""
    if len(values_R) < 2:
        raise InvalidConfig(f"an interval needs two rows of held-out text or more, got {len(values_R)}")
    mean = float(values_R.mean())
    half = float(student_t.ppf(0.975, len(values_R) - 1)) * float(values_R.std(ddof=1)) / len(values_R) ** 0.5
    return Difference(mean, mean - half, mean + half)


def judgement(readers: Rows[Reader], model: HilnasForCausalLM) -> dict[str, Any]:
    """One row of figures, by length: bits per byte, by position at the longest, divergence, the paired difference."""
    row: dict[str, Any] = {}
    for reader in readers:
        length, reading = reader.text.length, reader.read(model)
        gap = reader.paired(reading)
        assert reading.divergence_RT is not None
        row[f"bits_per_byte@{length}"] = reader.bits_per_byte(reading)
        row[f"divergence@{length}"] = float(reading.divergence_RT.mean())
        row[f"difference@{length}"] = [gap.mean, gap.low, gap.high]
        if reader is readers[-1]:
            row["by_position"] = reader.by_position(reading)
    return row
