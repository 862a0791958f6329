"""What a stage takes, estimated before it is run: tokens, FLOPs, GPU hours, memory and disk.

A training step is three forward passes (6 FLOPs a multiply-add); attention is counted at half the row's length, as
causal attention reads it, which is too much where documents are shorter than rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from foundation.errors import InvalidConfig
from search_space import cost
from search_space.arch import ArchConfig

LOGIT_BYTES = 10  # bfloat16, its float32 copy and the gradient
STATE_BYTES = 16  # float32 weight and gradient, AdamW's two moments
Cost = dict[str, Any]  # tokens, flops, gpu_hours, memory_bytes, ... without the stage's name


@dataclass(frozen=True)
class Device:
    """``num`` equal GPUs; ``peak_flops`` of one, dense, of which a share ``mfu`` is reached."""

    num: int
    peak_flops: float
    mfu: float
    price: float | None = None
    memory_bytes: float = 80e9

    def __post_init__(self) -> None:
        if self.num < 1 or self.peak_flops <= 0 or not 0 < self.mfu <= 1:
            raise InvalidConfig(
                f"{self.num} GPUs of {self.peak_flops:.3g} FLOP/s at a share of {self.mfu} are no device; give at least"
                " one, a peak over 0 and a share up to 1"
            )

    def hours(self, flops: float) -> float:
        """Of one GPU."""
        return flops / (self.peak_flops * self.mfu) / 3600


@dataclass(frozen=True)
class Costing:
    """The student, the GPUs and the teacher's parameters that a plan counts with."""

    arch: ArchConfig
    device: Device
    teacher_params: int

    def training(self, steps: int, batch: int, length: int, micro_batch: int) -> Cost:
        """``batch`` rows of ``length`` tokens a step, ``micro_batch`` of them at once in each process."""
        tokens = steps * batch * length
        matrices = 6.0 * cost.macs_per_token(self.arch, 0)
        attention = 6.0 * cost.macs_per_token(self.arch, length // 2) - matrices
        return {
            "tokens": tokens, "steps": steps, "length": length, **self._work((matrices + attention) * tokens),
            "attention_share": round(attention / (matrices + attention), 4),
            "memory_bytes": memory_bytes(self.arch, batch, length, micro_batch, self.device.num),
        }  # fmt: skip

    def writing(self, tokens: int) -> Cost:
        """Written by the student, at most; a decoded token costs a forward pass, and bandwidth that is not counted."""
        return {"tokens": tokens, **self._work(2.0 * cost.macs_per_token(self.arch, 0) * tokens)}

    def reinforcing(self, rounds: int, episodes: int, max_new_tokens: int, max_length: int) -> Cost:
        """Every episode at its full length: written once with one refill, learned from once, read half a time more."""
        written = self.writing(2 * episodes * max_new_tokens)
        learned = (6.0 + 1.0) * cost.macs_per_token(self.arch, max_length // 2) * episodes * max_length
        return {**written, "steps": rounds, "length": max_length, **self._work(written["flops"] + learned)}

    def asking_teacher(self, tokens: int) -> Cost:
        """One forward pass of the teacher over ``tokens``."""
        return self._work(2.0 * self.teacher_params * tokens)

    def _work(self, flops: float) -> Cost:
        return {"flops": flops, "gpu_hours": self.device.hours(flops)}


def memory_bytes(arch: ArchConfig, batch: int, length: int, micro_batch: int, gpus: int) -> int:
    """Of one GPU, estimated: states shared by all, the embedding gathered, activations and logits of one forward pass
    kept whole (the loop recomputes nothing)."""
    rows = min(micro_batch, max(1, batch // gpus))
    widths = sum(lin.in_features + lin.out_features for layer in arch.layers for lin in cost.layer_linears(arch, layer))
    kept = 2 * widths + 8 * arch.d_model * arch.depth
    states = STATE_BYTES * cost.params(arch) // gpus + 4 * cost.embedding_params(arch)
    return states + rows * length * (kept + LOGIT_BYTES * arch.vocab_size)
