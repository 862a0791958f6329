"""Scores of a task: the model answers greedily, the task's verifier scores what it said."""

from __future__ import annotations

import json
from collections.abc import Sequence

from foundation.files import write_atomically
from trainer.evaluation.subject import Subject
from trainer.evaluation.values import Metric, score
from trainer.rollout.episodes import RolloutConfig, play
from trainer.rollout.generation import encoded
from trainer.tasks.base import Example, Task


def scored(subject: Subject, name: str, task: Task, note: str = "") -> Metric:
    """``count`` test examples, with the tools that the task has. What is longer than ``max_prompt`` is left out and
    counted in the note."""
    settings = subject.settings
    examples = task.examples("test", settings.count)
    ids = encoded(subject.tokenizer, [example.conversation for example in examples])
    kept = [example for example, row in zip(examples, ids, strict=True) if len(row) <= settings.max_prompt]
    max_length = settings.max_prompt + 8 * settings.max_new_tokens
    how = RolloutConfig(settings.max_new_tokens, temperature=0.0, max_length=max_length)
    played = play(subject.model, subject.tokenizer, [(task, example) for example in kept], how, batch=32)
    answers = [episode.answer for (episode,) in played]
    scores = [task.score(example, said) for example, said in zip(kept, answers, strict=True)]
    _write(subject, name, kept, answers, scores)
    left_out = len(examples) - len(kept)
    notice = f"{left_out} of {len(examples)} prompts are longer than {settings.max_prompt} tokens and left out"
    return score(name, scores, "; ".join(text for text in (note, notice if left_out else "") if text))


def _write(
    subject: Subject, name: str, examples: Sequence[Example], answers: Sequence[str], scores: Sequence[float]
) -> None:
    folder = subject.folder / "answers"
    folder.mkdir(exist_ok=True)
    lines = (
        json.dumps({"prompt": example.prompt, "answer": said, "right": example.answer, "score": value})
        for example, said, value in zip(examples, answers, scores, strict=True)
    )
    path = folder / f"{name.replace('/', '-').replace(':', '-')}.jsonl"
    write_atomically(path, "".join(line + "\n" for line in lines))
