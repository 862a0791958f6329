"""How well held-out text is predicted: in all (bits per byte) and by how much came before (loss by position).

Shapes: B rows, T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foundation.errors import InvalidConfig
from search_space.modeling.model import HilnasForCausalLM
from trainer.data.packing import IGNORE, PackedStream
from trainer.evaluation.subject import Subject
from trainer.evaluation.values import Metric, ratio

LOGITS = 8_000_000  # as many as are held at once


@torch.inference_mode()
def nats_of(model: HilnasForCausalLM, ids_BT: Tensor, labels_BT: Tensor, **packing: Tensor) -> Tensor:
    """Negative log-likelihood of each label, 0 where it is IGNORE; in pieces that fit."""
    device, rows = next(model.parameters()).device, max(1, LOGITS // (ids_BT.shape[1] * model.config.vocab_size))
    parts = []
    for at in range(0, len(ids_BT), rows):
        part = slice(at, at + rows)
        given = {name: value[part].to(device) for name, value in packing.items()}
        logits = model(ids_BT[part].to(device), use_cache=False, **given).logits
        nats = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), labels_BT[part].flatten().to(device), ignore_index=IGNORE, reduction="none"
        )
        parts.append(nats.view(logits.shape[:2]).cpu())
    return torch.cat(parts)


def bits_per_byte(subject: Subject, _: str = "") -> Iterator[Metric]:
    """``count`` packed rows of the trained length; the interval is over rows."""
    settings, vocabulary = subject.settings, subject.vocabulary
    stream = PackedStream(subject.held_out, settings.length, vocabulary.end)
    rows = stream.rows(spread(stream.num_rows, settings.count))
    packing = {"seq_idx": rows.segments_BT, "position_ids": rows.positions_BT}
    nats_BT = nats_of(subject.model, rows.ids_BT, rows.labels_BT, **packing)
    lengths = torch.from_numpy(vocabulary.num_bytes.astype(np.int64))
    bytes_B = torch.where(rows.labels_BT == IGNORE, 0, lengths[rows.labels_BT.clamp(min=0)]).sum(1)
    yield ratio("bits_per_byte", (nats_BT.sum(1).double() / math.log(2)).tolist(), bytes_B.tolist(), "low")


def loss_by_position(subject: Subject, _: str = "") -> Iterator[Metric]:
    """Mean nats per token in buckets that double up to four times the trained length, over rows of that length; to
    less where the held-out text is too short for two such rows."""
    length, longest = subject.settings.length, 4 * subject.settings.length
    while longest > length // 8 and 2 * (longest + 1) > len(subject.text_without_ends()):
        longest //= 2
    text, note = _long_rows(subject, longest)
    if longest < 4 * length:
        note += f"; the text is too short for positions from {longest}"
    nats_BT = nats_of(subject.model, torch.from_numpy(text[:, :-1].copy()), torch.from_numpy(text[:, 1:].copy()))
    for first, after in (bucket for bucket in buckets(length) if bucket[1] <= longest):
        part = nats_BT[:, first:after].double()
        yield ratio(
            f"loss_by_position/{first}-{after - 1}", part.sum(1).tolist(), [after - first] * len(part), "low", note
        )


def buckets(length: int) -> list[tuple[int, int]]:
    """[0, L/8), [L/8, L/4), ... [2L, 4L)."""
    edges = [0, *(length * 4 >> shift for shift in range(5, -1, -1))]
    return list(zip(edges, edges[1:], strict=False))


def spread(num_rows: int, count: int) -> NDArray[np.int64]:
    """``count`` of ``num_rows`` rows, or all, from start to end."""
    return np.linspace(0, num_rows - 1, min(count, num_rows)).round().astype(np.int64)


def _long_rows(subject: Subject, length: int) -> tuple[NDArray[np.int64], str]:
    """[B, length + 1] out of documents that are long enough; out of all text in a row when there are too few."""
    tokens, end, wanted = subject.held_out, subject.vocabulary.end, subject.settings.count
    documents = np.split(tokens, np.flatnonzero(tokens == end) + 1)
    inside = [_cut(document[document != end], length + 1) for document in documents]
    rows, note = np.concatenate(inside), "rows lie within documents"
    if len(rows) < min(wanted, 8):
        rows, note = _cut(subject.text_without_ends(), length + 1), "documents joined: few are long enough"
    if not len(rows):
        raise InvalidConfig(f"{len(tokens)} held-out tokens make no row of {length}; give more text or less length")
    return rows[spread(len(rows), wanted)].astype(np.int64), note


def _cut(tokens: NDArray[np.int32], length: int) -> NDArray[np.int32]:
    whole = len(tokens) // length
    return tokens[: whole * length].reshape(whole, length)
