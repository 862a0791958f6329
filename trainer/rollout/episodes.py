"""Episodes: a model answers, tools reply where a task has some, until it says something that is no call.

One episode is one sequence of tokens in which those that the model generated are marked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from search_space.modeling.model import HilnasForCausalLM
from trainer.data.chat import reply_of_tool, token_ids
from trainer.rollout.decoding import Completion, Decoding
from trainer.rollout.generation import encoded, ends_of, sample, texts_of
from trainer.rollout.prefix_cache.cache import PrefixCache
from trainer.tasks.base import Conversation, Example, Task


@dataclass(frozen=True)
class RolloutConfig:
    """``max_new_tokens`` are of one turn, ``max_length`` of the whole episode."""

    max_new_tokens: int = 48
    temperature: float = 1.0
    max_turns: int = 4
    max_length: int = 1024


@dataclass
class Episode:
    """``logprobs`` has one entry for each ``generated`` token. ``answer`` is the last turn's text; ``finished`` says
    that this turn came to its end."""

    ids: list[int]
    generated: list[bool]
    logprobs: list[float] = field(default_factory=list)
    answer: str = ""
    finished: bool = False
    turns: int = 0
    calls: int = 0

    def add_context(self, ids: Sequence[int]) -> None:
        self.ids += ids
        self.generated += [False] * len(ids)

    def add_completion(self, completion: Completion, text: str) -> None:
        self.ids += completion.ids
        self.generated += [True] * len(completion.ids)
        self.logprobs += completion.logprobs
        self.answer, self.finished = text, completion.finished
        self.turns += 1


def play(
    model: HilnasForCausalLM, tokenizer: Any, asked: Sequence[tuple[Task, Example]], how: RolloutConfig,
    num_samples: int = 1, seed: int = 0, batch: int = 64, prefixes: PrefixCache | None = None,
) -> list[list[Episode]]:  # fmt: skip
    """``num_samples`` episodes of every example. The same seed plays the same episodes. With ``prefixes`` a turn reads
    only what came since the last one."""
    prompts = encoded(tokenizer, [example.conversation for _, example in asked])
    decoding = Decoding(how.max_new_tokens, how.temperature, ends_of(tokenizer))
    first = sample(model, prompts, decoding, num_samples, seed, batch, prefixes)
    groups = [
        [Episode(list(prompt), [False] * len(prompt)) for _ in said]
        for prompt, said in zip(prompts, first, strict=True)
    ]
    for episodes, said in zip(groups, first, strict=True):
        _take(tokenizer, episodes, said)
    talks = [(episode, talk) for (task, example), episodes in zip(asked, groups, strict=True) for episode in episodes
             if (talk := conversation_of(task, example)) is not None]  # fmt: skip
    for index in range(1, how.max_turns):
        talks = [(episode, talk) for episode, talk in talks if _replied(tokenizer, episode, talk, how)]
        if not talks:
            break
        again = sample(model, [episode.ids for episode, _ in talks], decoding, 1, seed + 7919 * index, batch, prefixes)
        _take(tokenizer, [episode for episode, _ in talks], [one for (one,) in again])
    return groups


def conversation_of(task: Task, example: Example) -> Conversation | None:
    """Tools are what a task that has some opens for each episode."""
    opened = getattr(task, "converse", None)
    return opened(example) if opened is not None else None


def _take(tokenizer: Any, episodes: Sequence[Episode], said: Sequence[Completion]) -> None:
    for episode, completion, text in zip(episodes, said, texts_of(tokenizer, said), strict=True):
        episode.add_completion(completion, text)


def _replied(tokenizer: Any, episode: Episode, talk: Conversation, how: RolloutConfig) -> bool:
    """Whether the model's words were a call and there is room for what the tool says and another turn."""
    reply = talk.reply(episode.answer) if episode.finished else None
    if reply is None:
        return False
    reply_ids = token_ids(tokenizer, reply_of_tool(reply))
    if len(episode.ids) + len(reply_ids) + how.max_new_tokens > how.max_length:
        episode.finished = False
        return False
    episode.add_context(reply_ids)
    episode.calls += 1
    return True
