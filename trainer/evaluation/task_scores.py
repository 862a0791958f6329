"""Scores of a task: the model answers greedily, the task's verifier scores what it said."""

from __future__ import annotations

import json
from collections.abc import Sequence

from trainer.evaluation.subject import Subject
from trainer.evaluation.values import Metric, score
from trainer.generation import encoded, generate
from trainer.pipeline.records import write_whole
from trainer.tasks.base import Example, Task


def scored(subject: Subject, name: str, task: Task, note: str = "") -> Metric:
    """``count`` test examples. What is longer than ``max_prompt`` is left out and counted in the note."""
    settings = subject.settings
    examples = task.examples("test", settings.count)
    prompts = [example.conversation for example in examples]
    short = [i for i, ids in enumerate(encoded(subject.tokenizer, prompts)) if len(ids) <= settings.max_prompt]
    answers = generate(
        subject.model, subject.tokenizer, [prompts[i] for i in short], settings.max_new_tokens,
        max_prompt=settings.max_prompt,
    )  # fmt: skip
    kept = [examples[i] for i in short]
    scores = [task.score(example, said) for example, (said,) in zip(kept, answers, strict=True)]
    _write(subject, name, kept, [said for (said,) in answers], scores)
    left_out = len(examples) - len(short)
    told = f"{left_out} of {len(examples)} prompts are longer than {settings.max_prompt} tokens and left out"
    return score(name, scores, "; ".join(text for text in (note, told if left_out else "") if text))


def _write(
    subject: Subject, name: str, examples: Sequence[Example], answers: Sequence[str], scores: Sequence[float]
) -> None:
    folder = subject.folder / "answers"
    folder.mkdir(exist_ok=True)
    lines = (
        json.dumps({"prompt": example.prompt, "answer": said, "right": example.answer, "score": value})
        for example, said, value in zip(examples, answers, scores, strict=True)
    )
    write_whole(folder / f"{name.replace('/', '-').replace(':', '-')}.jsonl", "".join(line + "\n" for line in lines))
