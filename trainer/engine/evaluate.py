"""Held-out text in bits per byte, so that vocabularies of different sizes compare."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainer.data.packing import IGNORE, PackedStream


@torch.no_grad()
def bits_per_byte(
    model: nn.Module, stream: PackedStream, num_bytes: NDArray[np.int32], max_rows: int = 64, batch: int = 8
) -> float:
    """Total negative log-likelihood of the labelled tokens over the bytes that they spell (``num_bytes`` per token).

    An end of document has no bytes; its nats count.
    """
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    nats, length, lengths = 0.0, 0, torch.from_numpy(num_bytes.astype(np.int64))
    rows_wanted = np.arange(min(max_rows, stream.num_rows))
    for part in (rows_wanted[at : at + batch] for at in range(0, len(rows_wanted), batch)):
        rows = stream.rows(part)
        logits = model(
            rows.ids_BT.to(device), seq_idx=rows.segments_BT.to(device), position_ids=rows.positions_BT.to(device),
            use_cache=False,
        ).logits  # fmt: skip
        flat = rows.labels_BT.flatten()
        nats += float(torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), flat.to(device), ignore_index=IGNORE, reduction="sum"
        ))  # fmt: skip
        length += int(lengths[flat[flat != IGNORE]].sum())
    model.train(was_training)
    return nats / math.log(2) / max(1, length)
