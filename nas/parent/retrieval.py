"""What a candidate can fetch from its context: a stretch of shuffled tokens appears, other text follows, then the
stretch again, whose tokens nothing but the first appearance tells."""

from __future__ import annotations

from collections.abc import Sequence as Rows
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from foundation.errors import InvalidConfig
from nas.parent.judge import final_hidden
from search_space.modeling.model import HilnasForCausalLM

STRETCH, CUE = 32, 4  # tokens of a stretch, and those at its start that are given and not scored


@dataclass(frozen=True)
class RetrievalTask:
    """``rows`` [R, T] end with the second appearance; ``distances`` [R] is how far back the first one lies."""

    rows: NDArray[Any]
    distances: NDArray[Any]


def retrieval_task(stream: NDArray[Any], length: int, distances: Rows[int], count: int, seed: int = 0) -> RetrievalTask:
    """``count`` rows of ``length`` tokens for each distance, made of a stream of real tokens."""
    for distance in distances:
        if not STRETCH <= distance <= length - STRETCH:
            raise InvalidConfig(
                f"a distance of {distance} does not fit rows of {length} tokens;"
                f" {STRETCH} to {length - STRETCH} would work"
            )
    rng, rows, placed = np.random.default_rng(seed), [], []
    for distance in distances:
        for _ in range(count):
            first = int(rng.integers(len(stream) - length))
            row = np.array(stream[first : first + length], np.int64)
            stretch = rng.permutation(stream)[:STRETCH] if len(stream) < 4096 else rng.choice(stream, STRETCH)
            row[-STRETCH:] = stretch
            row[-STRETCH - distance : length - distance] = stretch
            rows.append(row)
            placed.append(distance)
    return RetrievalTask(np.stack(rows), np.array(placed))


@torch.no_grad()
def retrieve(model: HilnasForCausalLM, task: RetrievalTask, at_once: int = 16) -> dict[str, Any]:
    """The share of the stretch's tokens that the model says, by distance, and its mean nats for them."""
    scored = STRETCH - CUE
    right, nats = [], []
    for ids_BT in torch.as_tensor(task.rows, device=model.device).split(at_once):
        hidden_BTD = final_hidden(model, ids_BT[:, :-1])
        logprobs_BTV = model.lm_head(hidden_BTD[:, -scored:]).float().log_softmax(-1)
        wanted_BT = ids_BT[:, -scored:]
        right.append((logprobs_BTV.argmax(-1) == wanted_BT).double().mean(1))
        nats.append(-logprobs_BTV.gather(-1, wanted_BT[..., None]).squeeze(-1).double().mean(1))
    said_R, cost_R = torch.cat(right).cpu().numpy(), torch.cat(nats).cpu().numpy()
    places = sorted(set(task.distances.tolist()))
    return {
        "accuracy": {str(place): float(said_R[task.distances == place].mean()) for place in places},
        "nats": float(cost_R.mean()),
    }
