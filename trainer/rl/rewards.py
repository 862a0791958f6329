"""Rewards that a program can verify: the task's score, less a penalty for saying the same again."""

from __future__ import annotations

import math

from foundation.errors import HilnasError
from trainer.rl.config import RlConfig
from trainer.rollout.episodes import Episode
from trainer.rollout.repetition import repeated_share
from trainer.tasks.base import Example, Task


class RewardFailed(HilnasError):
    code = "reward_failed"


def success_of(task: Task, example: Example, episode: Episode) -> float:
    """The verifier's word on the last turn; an answer without an end is none."""
    return float(task.score(example, episode.answer)) if episode.finished else 0.0


def reward_of(success: float, episode: Episode, levers: RlConfig) -> float:
    said = [token for token, own in zip(episode.ids, episode.generated, strict=True) if own]
    repeats = repeated_share(said, levers.ngram) > levers.repetition_threshold
    return success - (levers.repetition_penalty if repeats else 0.0)


def usable(rewards: list[float]) -> bool:
    """A verifier may be wrong; a number that is none must not reach a weight."""
    return all(math.isfinite(reward) for reward in rewards)
