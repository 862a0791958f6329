"""Questions and what was said to them: rollouts of the student, of the teacher, and the answer that was there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from search_space.modeling.model import HilnasForCausalLM
from trainer.data.chat import token_ids
from trainer.rollout.decoding import Completion, Decoding
from trainer.rollout.generation import ends_of, sample, texts_of
from trainer.rollout.prefix_cache.cache import PrefixCache
from trainer.tasks.base import Example

Origin = Literal["sampled", "greedy", "teacher", "given"]
PREFIX_BYTES = 256 << 20
ON_POLICY: tuple[Origin, ...] = ("sampled", "greedy")


@dataclass(frozen=True)
class Question:
    """``prompt`` as the model reads it, ``given`` the answer that is there, if any. ``example`` where a verifier knows
    the answer; else the prompt opens a text."""

    prompt: str
    ids: list[int]
    given: str
    example: Example | None = None


@dataclass(frozen=True)
class Candidate:
    """``ids`` with the token that ends the turn, if it ``finished``."""

    ids: list[int]
    text: str
    origin: Origin
    finished: bool

    @property
    def on_policy(self) -> bool:
        return self.origin in ON_POLICY

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Rollouts:
    """``sampled`` rollouts at ``temperature`` and one greedy; LFM2.5 took five and one."""

    sampled: int = 5
    temperature: float = 1.0
    max_new_tokens: int = 128
    seed: int = 0


def rolled_out(
    model: HilnasForCausalLM, tokenizer: Any, questions: Sequence[Question], spec: Rollouts, first: int = 0
) -> list[list[Candidate]]:
    """The student's own; ``first`` is the number of the first question, so that parts draw what the whole would."""
    rows, ends = [question.ids for question in questions], ends_of(tokenizer)
    drawn = Decoding(spec.max_new_tokens, spec.temperature, ends)
    likeliest = Decoding(spec.max_new_tokens, 0.0, ends)
    prefixes = PrefixCache(PREFIX_BYTES)  # the greedy rollout goes on from prompts that the sampled ones read
    several = sample(model, rows, drawn, spec.sampled, spec.seed * 1_000_003 + first, 64, prefixes)
    single = sample(model, rows, likeliest, batch=64, prefixes=prefixes)
    return [
        [*_candidates(tokenizer, some, "sampled"), *_candidates(tokenizer, one, "greedy")]
        for some, one in zip(several, single, strict=True)
    ]


def _candidates(tokenizer: Any, made: Sequence[Completion], origin: Origin) -> list[Candidate]:
    texts = texts_of(tokenizer, made)
    return [Candidate(row.ids, text, origin, row.finished) for row, text in zip(made, texts, strict=True)]


def written(tokenizer: Any, text: str, origin: Origin, question: Question, max_new_tokens: int) -> Candidate | None:
    """What somebody else wrote, in the student's tokens: a whole answer, or a text's next tokens; None when the answer
    is longer than the student may be, or empty."""
    ids = token_ids(tokenizer, text)
    if question.example is None:
        return Candidate(ids[:max_new_tokens], text, origin, False) if ids else None
    stop = min(ends_of(tokenizer) - {tokenizer.eos_token_id})
    return Candidate([*ids, stop], text, origin, True) if ids and len(ids) < max_new_tokens else None
