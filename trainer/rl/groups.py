"""Groups of episodes of one example: filled again until enough of them teach something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from search_space.modeling.model import HilnasForCausalLM
from trainer.rl.config import RlConfig
from trainer.rl.curriculum import Curriculum
from trainer.rl.rewards import RewardFailed, reward_of, success_of, usable
from trainer.rollout.episodes import Episode, RolloutConfig, play
from trainer.rollout.generation import encoded
from trainer.rollout.prefix_cache.cache import PrefixCache
from trainer.tasks.base import Example, Task
from trainer.tasks.registry import task_named

POOL = 512  # training examples of a task at a level that groups are drawn from


@dataclass(frozen=True)
class Group:
    name: str
    episodes: list[Episode]
    rewards: list[float]

    def advantages(self, normalize: bool) -> list[float]:
        """Reward less the group's mean; over its deviation where that is asked for."""
        values = np.asarray(self.rewards)
        centred = values - values.mean()
        return list(centred / (values.std() + 1e-6) if normalize else centred)

    @property
    def teaches(self) -> bool:
        return max(self.rewards) - min(self.rewards) > 1e-9


@dataclass
class Round:
    """``kept`` are trained on. ``drawn`` and ``filtered`` count groups, ``refilled`` those drawn to replace filtered
    ones; ``spoiled`` had a reward that is no number, ``too_long`` a prompt without room for an answer."""

    kept: list[Group] = field(default_factory=list)
    successes: dict[str, list[float]] = field(default_factory=dict)
    drawn: int = 0
    filtered: int = 0
    refilled: int = 0
    spoiled: int = 0
    too_long: int = 0
    rewards: list[float] = field(default_factory=list)
    unfinished: int = 0

    @property
    def success(self) -> float:
        values = [value for found in self.successes.values() for value in found]
        return float(np.mean(values)) if values else 0.0


@dataclass(frozen=True)
class Sampling:
    """``groups`` of ``size`` episodes a round."""

    groups: int = 8
    size: int = 8
    play: RolloutConfig = RolloutConfig()


def gather(
    model: HilnasForCausalLM, tokenizer: Any, curriculum: Curriculum, sampling: Sampling, levers: RlConfig,
    seed: tuple[int, ...], prefixes: PrefixCache | None = None,
) -> Round:  # fmt: skip
    """One round. Raises RewardFailed when no group has rewards that are numbers."""
    found = Round()
    for attempt in range(1 + (levers.refills if levers.dynamic_filter else 0)):
        missing = sampling.groups - len(found.kept)
        if not missing:
            break
        generator = np.random.default_rng((*seed, attempt))
        _fill(found, model, tokenizer, curriculum.draw(generator, missing), sampling, levers, generator, prefixes)
        found.refilled += missing if attempt else 0
    if found.spoiled and found.spoiled == found.drawn:
        raise RewardFailed(f"all {found.drawn} groups of a round had a reward that is no number; mend the verifier")
    if found.too_long and not found.drawn:
        raise RewardFailed(f"no prompt leaves room for an answer in {sampling.play.max_length} tokens; give more")
    return found


def _fill(
    found: Round, model: HilnasForCausalLM, tokenizer: Any, names: Sequence[str], sampling: Sampling, levers: RlConfig,
    generator: np.random.Generator, prefixes: PrefixCache | None,
) -> None:  # fmt: skip
    asked = [(task_named(name), _pool(name)[int(generator.integers(POOL))]) for name in names]
    lengths = map(len, encoded(tokenizer, [example.conversation for _, example in asked]))
    room = [length + sampling.play.max_new_tokens <= sampling.play.max_length for length in lengths]
    found.too_long += len(room) - sum(room)
    fitting = [(name, *pair) for name, pair, fits in zip(names, asked, room, strict=True) if fits]
    pairs = [(task, example) for _, task, example in fitting]
    seed = int(generator.integers(2**31))
    played = play(model, tokenizer, pairs, sampling.play, sampling.size, seed, prefixes=prefixes) if pairs else []
    for (name, task, example), episodes in zip(fitting, played, strict=True):
        _judge(found, name, task, example, episodes, levers)


def _judge(found: Round, name: str, task: Task, example: Example, episodes: list[Episode], levers: RlConfig) -> None:
    successes = [success_of(task, example, episode) for episode in episodes]
    rewards = [reward_of(success, episode, levers) for success, episode in zip(successes, episodes, strict=True)]
    found.drawn += 1
    if not usable(rewards):
        found.spoiled += 1
        return
    found.rewards += rewards
    found.unfinished += sum(not episode.finished for episode in episodes)
    found.successes.setdefault(name, []).extend(successes)
    group = Group(name, episodes, rewards)
    if levers.dynamic_filter and not group.teaches:
        found.filtered += 1
    else:
        found.kept.append(group)


@lru_cache(maxsize=256)
def _pool(name: str) -> list[Example]:
    return task_named(name).examples("train", POOL)
