"""The share of a task's examples that a model solves: greedily, with tools where the task has some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from search_space.modeling.model import HilnasForCausalLM
from trainer.rollout.episodes import RolloutConfig, play
from trainer.tasks.base import Example, Split, Task


def solved(
    model: HilnasForCausalLM, tokenizer: Any, task: Task, examples: Sequence[Example], how: RolloutConfig, seed: int = 0
) -> list[float]:
    """The verifier's score of each example's last turn; 0 where it did not come to its end."""
    played = play(model, tokenizer, [(task, example) for example in examples], how, seed=seed)
    return [
        float(task.score(example, episode.answer)) if episode.finished else 0.0
        for example, (episode,) in zip(examples, played, strict=True)
    ]


def share_solved(
    model: HilnasForCausalLM, tokenizer: Any, task: Task, split: Split, count: int, how: RolloutConfig, seed: int = 0
) -> float:
    scores = solved(model, tokenizer, task, task.examples(split, count), how, seed)
    return sum(scores) / len(scores)
