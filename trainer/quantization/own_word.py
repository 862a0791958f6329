"""What the model said in float of the rows it trains on. Quantization-aware training may aim at that instead of
labels, and then mends what quantization broke and changes little else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nas.contracts.quiet import QuietLock
from search_space.modeling.model import HilnasForCausalLM
from trainer.data.packing import PackedStream
from trainer.distillation import teacher_top_k
from trainer.topk_cache import CacheSpec, TopKCache

SHARD_ROWS, BATCH_ROWS = 64, 8


def write_own_word(model: HilnasForCausalLM, source: str, stream: PackedStream, num_rows: int, folder: Path) -> None:
    """Fills ``folder/cache`` with the top 32 of every position of the first ``num_rows`` rows; goes on after a kill."""
    spec = CacheSpec(
        source, num_rows * stream.length, model.config.vocab_size, min(32, model.config.vocab_size),
        SHARD_ROWS * stream.length,
    )  # fmt: skip
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.to(device).eval()  # type: ignore[arg-type]

    @torch.inference_mode()
    def said(first: int, last: int) -> tuple[Tensor, Tensor]:
        parts = []
        for at in range(first // stream.length, last // stream.length, BATCH_ROWS):
            rows = stream.rows(np.arange(at, min(at + BATCH_ROWS, last // stream.length)))
            with QuietLock().heavy():
                logits = model(
                    rows.ids_BT.to(device), seq_idx=rows.segments_BT.to(device),
                    position_ids=rows.positions_BT.to(device), use_cache=False,
                ).logits  # fmt: skip
            parts.append(tuple(found.flatten(0, 1).cpu() for found in teacher_top_k(logits, spec.k)))
        logprobs, ids = zip(*parts, strict=True)
        return torch.cat(logprobs), torch.cat(ids)

    TopKCache(folder / "cache", spec).fill(said)
