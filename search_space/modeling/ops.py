"""The ``hilnas::`` operators as torch sees them: schemas for export and a plain reference for eager runs.

State never flows through the graph. An operator takes ``slots`` (ids) and reads and writes the caller's ``StateTable``;
the C++ runner has the same table (kernels/runtime). So one exported block serves any context length and cache dtype.
Schemas and shapes are those of docs/runner.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.library import Library

from search_space.modeling.layers import rotate
from search_space.states import StateSpec

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


class StateTable:
    """Slot id -> state tensors by name, as defined by each kind of state."""

    def __init__(self, cache_dtype: str = "fp32") -> None:
        self.dtype = _DTYPES[cache_dtype]
        self.slots: list[dict[str, Tensor]] = []

    def add(self, spec: StateSpec, capacity: int) -> int:
        self.slots.append(spec.tensors(capacity, self._zeros))
        return len(self.slots) - 1

    def _zeros(self, *shape: int, cached: bool = False) -> Tensor:
        return torch.zeros(shape, dtype=self.dtype if cached else torch.float32)


_active: list[StateTable] = []


@contextmanager
def active(table: StateTable) -> Iterator[StateTable]:
    """Eager calls of the operators inside this block use ``table``."""
    _active.append(table)
    try:
        yield table
    finally:
        _active.pop()


def _rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def _norm_rope(x: Tensor, weight: Tensor | None, inv_freq: Tensor, pos: Tensor, eps: float) -> Tensor:
    if weight is not None:
        x = _rms_norm(x, weight, eps)
    positions = torch.arange(x.shape[1]) + int(pos[0])
    return rotate(x, positions[None], inv_freq)


def _attention(
    q: Tensor, k: Tensor, v: Tensor, slots: Tensor, pos: Tensor, index: int, window: int, scale: float
) -> Tensor:
    state, start, num_tokens = _active[-1].slots[int(slots[index])], int(pos[0]), q.shape[1]
    state["keys"][start : start + num_tokens] = k[0].to(state["keys"].dtype)
    state["values"][start : start + num_tokens] = v[0].to(state["values"].dtype)
    keys, values = (state[name][: start + num_tokens].float() for name in ("keys", "values"))
    if window:  # the window path attends to this chunk's own keys before they are rounded to the cache dtype
        keys, values = torch.cat((keys[:start], k[0])), torch.cat((values[:start], v[0]))
    query, key = torch.arange(start, start + num_tokens)[:, None], torch.arange(start + num_tokens)[None]
    allowed = (key <= query) & ((key > query - window) if window else True)
    heads = lambda x: x.transpose(0, 1)[None]  # noqa: E731
    out = torch.nn.functional.scaled_dot_product_attention(
        heads(q[0]), heads(keys), heads(values), attn_mask=allowed, scale=scale, enable_gqa=True
    )
    return out.transpose(1, 2).contiguous()


def _gated_short_conv(bcx: Tensor, weight: Tensor, slots: Tensor, pos: Tensor, index: int) -> Tensor:
    state = _active[-1].slots[int(slots[index])]
    b, c, x = bcx[0].chunk(3, dim=-1)
    joined, taps, num_tokens = torch.cat((state["tail"], b * x)), weight.shape[1] - 1, bcx.shape[1]
    state["tail"] = joined[joined.shape[0] - taps :]
    mixed = sum(joined[tap : tap + num_tokens] * weight[:, tap] for tap in range(taps + 1))
    return (c * mixed)[None]


def _matrix_state_read(x: Tensor, slots: Tensor, index: int, heads: int, key_dim: int, value_dim: int) -> Tensor:
    return _active[-1].slots[int(slots[index])]["matrix"].clone()[None]


def _matrix_state_write(x: Tensor, matrix: Tensor, slots: Tensor, index: int) -> Tensor:
    _active[-1].slots[int(slots[index])]["matrix"].copy_(matrix[0])
    return x.clone()


def unpack_rows(packed: Tensor, scales: Tensor, group_size: int) -> Tensor:
    """4-bit rows back to float32: low nibble is the even column, stored as value + 8."""
    nibbles = torch.stack((packed & 15, packed >> 4), -1).flatten(-2).to(torch.float32) - 8
    return nibbles * scales.repeat_interleave(group_size, -1)


def _embedding_4bit(ids: Tensor, packed: Tensor, scales: Tensor, group_size: int) -> Tensor:
    return unpack_rows(packed[ids], scales[ids], group_size)


def _embedding_8bit(ids: Tensor, rows: Tensor, scales: Tensor) -> Tensor:
    return rows[ids].to(torch.float32) * scales[ids].unsqueeze(-1)


def _bcx_third(bcx: Tensor, *_: object) -> Tensor:
    return bcx.new_empty(bcx.shape[0], bcx.shape[1], bcx.shape[2] // 3)


def _row_shape(width_factor: int) -> Callable[..., Tensor]:
    return lambda ids, rows, scales, *_: scales.new_empty(ids.shape[0], ids.shape[1], rows.shape[1] * width_factor)


_SCHEMAS: dict[str, tuple[str, Callable[..., Tensor], Callable[..., Tensor]]] = {
    "rms_norm": ("(Tensor x, Tensor weight, float eps", _rms_norm, lambda x, *_: torch.empty_like(x)),
    "norm_rope": (
        "(Tensor x, Tensor? weight, Tensor inv_freq, Tensor pos, float eps",
        _norm_rope,
        lambda x, *_: torch.empty_like(x),
    ),
    "attention": (
        "(Tensor q, Tensor k, Tensor v, Tensor slots, Tensor pos, int index, int window, float scale",
        _attention,
        lambda q, *_: torch.empty_like(q),
    ),
    "gated_short_conv": (
        "(Tensor bcx, Tensor weight, Tensor slots, Tensor pos, int index",
        _gated_short_conv,
        _bcx_third,
    ),
    # for mixers made of stock operators: reading the matrices [1, H, K, V] of a slot, and replacing them
    "matrix_state_read": (
        "(Tensor x, Tensor slots, int index, int heads, int key_dim, int value_dim",
        _matrix_state_read,
        lambda x, slots, index, heads, key_dim, value_dim: x.new_empty(1, heads, key_dim, value_dim),
    ),
    "matrix_state_write": (
        "(Tensor x, Tensor matrix, Tensor slots, int index",
        _matrix_state_write,
        lambda x, *_: torch.empty_like(x),
    ),
    "embedding_4bit": ("(Tensor ids, Tensor packed, Tensor scales, int group_size", _embedding_4bit, _row_shape(2)),
    "embedding_8bit": ("(Tensor ids, Tensor rows, Tensor scales", _embedding_8bit, _row_shape(1)),
}


def _register() -> Library:
    """ExecuTorch looks up the ``.out`` overload of every operator it lowers, so both are declared."""
    library = Library("hilnas", "DEF")
    for name, (arguments, reference, shape) in _SCHEMAS.items():
        library.define(f"{name}{arguments}) -> Tensor")
        library.define(f"{name}.out{arguments}, *, Tensor(a!) out) -> Tensor(a!)")
        library.impl(name, reference, "CPU")
        library.impl(name, shape, "Meta")
        library.impl(f"{name}.out", _out_of(reference), "CPU")
        library.impl(f"{name}.out", lambda *args, out: out, "Meta")
    return library


def _out_of(reference: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *args, out: out.copy_(reference(*args))


LIBRARY = _register()
ops = torch.ops.hilnas
