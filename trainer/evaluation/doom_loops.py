"""How often a model gets into a loop that it never leaves, greedily and sampled (docs/metrics.md, doom_loops)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

from foundation.files import write_atomically
from trainer.evaluation.language import spread
from trainer.evaluation.subject import Subject
from trainer.evaluation.values import Metric, share
from trainer.rollout.decoding import Completion, Decoding
from trainer.rollout.generation import encoded, ends_of, sample
from trainer.rollout.repetition import is_doom_loop
from trainer.tasks.base import seed_of
from trainer.tasks.registry import task_named

OPENING = 32  # tokens of held-out text that are continued
TASKS = ("reasoning:chain_sum@2", "reasoning:leg_counting@2", "reasoning:word_sequence_reversal@2", "extraction",
         "tool_calls")  # fmt: skip
SAMPLED_AT = 0.7


def doom_loops(subject: Subject, _: str = "") -> Iterator[Metric]:
    """Half of ``count`` prompts open held-out texts, half ask the tasks above; ``max_new_tokens`` are what a text must
    come to an end within. Greedy, then sampled at temperature 0.7."""
    opened, asked = prompts_of(subject)
    rows = [*opened, *asked]
    for name, temperature in (("greedy", 0.0), ("sampled", SAMPLED_AT)):
        made = continued(subject, rows, temperature)
        loops = [float(is_doom_loop(row.ids, row.finished)) for row in made]
        _write(subject, name, rows, made, loops)
        inside = sum(loops[: len(opened)]), sum(loops[len(opened) :])
        note = f"{inside[0]:.0f} of {len(opened)} openings, {inside[1]:.0f} of {len(asked)} questions"
        yield replace(share(f"doom_loops/{name}", loops, "low"), note=note)


def prompts_of(subject: Subject) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids of openings of held-out text, and of questions that the training split does not hold."""
    text, half = subject.text_without_ends(), max(1, subject.settings.count // 2)
    starts = spread(max(1, len(text) // OPENING), half) * OPENING
    opened = [text[start : start + OPENING].tolist() for start in starts]
    each = -(-half // len(TASKS))
    questions = [example.conversation for name in TASKS for example in task_named(name).examples("test", each)]
    asked = encoded(subject.tokenizer, questions[:: max(1, len(questions) // half)][:half])
    return opened, asked


def continued(subject: Subject, rows: Sequence[Sequence[int]], temperature: float) -> list[Completion]:
    decoding = Decoding(subject.settings.max_new_tokens, temperature, ends_of(subject.tokenizer))
    seed = seed_of("doom_loops", subject.settings.seed)
    return [made for (made,) in sample(subject.model, rows, decoding, seed=seed, batch=64)]


def _write(
    subject: Subject, name: str, rows: Sequence[Sequence[int]], made: Sequence[Completion], loops: Sequence[float]
) -> None:
    """The texts, for whoever wants to see a loop."""
    folder = subject.folder / "answers"
    folder.mkdir(exist_ok=True)
    texts = subject.tokenizer.batch_decode(rows), subject.tokenizer.batch_decode([row.said for row in made])
    lines = (
        json.dumps({"prompt": prompt, "answer": said, "loop": bool(loop), "finished": row.finished})
        for prompt, said, loop, row in zip(*texts, loops, made, strict=True)
    )
    write_atomically(folder / f"doom_loops-{name}.jsonl", "".join(line + "\n" for line in lines))
