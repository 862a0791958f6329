"""What a teacher is asked to write: sentences that state given facts, and short answers to everyday questions."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from foundation.measurement_lock import MeasurementLock
from foundation.registry import Registry
from trainer.data.chat import STOP, Prompt, prompt_of, token_ids
from trainer.tasks import words
from trainer.tasks.base import Example, drawn
from trainer.tasks.extraction import TEMPLATES, example_of, record_of
from trainer.teacher.model import load_teacher

MAX_CHARACTERS = 240
QUESTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("What is a {} used for? Answer in one sentence.", words.THINGS),
    ("What does a {} do? Answer in one sentence.", words.JOBS),
    ("Say one thing about {} in one sentence.", words.CITIES),
)


@dataclass(frozen=True)
class Request:
    """What the teacher is asked, and the example that its words make; None when they do not hold what they must."""

    prompt: Prompt
    example: Callable[[str], Example | None]


def restatements(count: int) -> list[Request]:
    """Records that the teacher puts into words; kept when every value stands in them."""
    draw = drawn("teacher:extraction", "train")
    return [_restatement(draw) for _ in range(count)]


def _restatement(draw: random.Random) -> Request:
    record = record_of(draw.choice(list(TEMPLATES)), draw)
    facts = ", ".join(f"{key} {value}" for key, value in record.items())

    def example(text: str) -> Example | None:
        sentence = text.strip().splitlines()[0] if text.strip() else ""
        stated = all(re.search(rf"\b{re.escape(str(value))}\b", sentence) for value in record.values())
        if not stated or len(sentence) > MAX_CHARACTERS:
            return None
        return example_of(record, sentence, "extraction", source="teacher")

    return Request(prompt_of(f"Write one short sentence with these facts: {facts}."), example)


def answers(count: int) -> list[Request]:
    """Questions of everyday life; what is wrong with the answers is for the filters to say."""
    draw = drawn("teacher:answers", "train")
    asked = [(template.format(thing), draw.random()) for template, things in QUESTIONS for thing in things]
    questions = [text for text, _ in sorted(asked, key=lambda pair: pair[1])]
    chosen = [questions[i % len(questions)] for i in range(count)]
    return [Request(prompt_of(text), _answer_of(text)) for text in chosen]


def _answer_of(question: str) -> Callable[[str], Example | None]:
    def example(text: str) -> Example | None:
        said = text.strip()
        return Example("chat", question, said, source="teacher") if said else None

    return example


# what a teacher can be asked to write -> that many requests
REQUESTS: Registry[Callable[[int], list[Request]]] = Registry("text by a teacher", "texts by a teacher")
REQUESTS.add("teacher:extraction", restatements)
REQUESTS.add("teacher:answers", answers)


@torch.inference_mode()
def replies(
    folder: Path, prompts: Sequence[str], seed: int, max_new_tokens: int = 40, batch: int = 16,
    progress: Callable[[float], None] = lambda _: None,
) -> list[str]:
    """Sampled at temperature 0.7, cut at the end of the turn."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model, texts = load_teacher(folder), []
    stop = tokenizer.convert_tokens_to_ids(STOP)
    for at in range(0, len(prompts), batch):
        torch.manual_seed(seed + at)
        rows = [token_ids(tokenizer, prompt) for prompt in prompts[at : at + batch]]
        given = tokenizer.pad({"input_ids": rows}, return_tensors="pt")
        with MeasurementLock().shared():
            made = model.generate(
                input_ids=given["input_ids"], attention_mask=given["attention_mask"], do_sample=True, temperature=0.7,
                top_k=50, max_new_tokens=max_new_tokens, eos_token_id=[stop, tokenizer.eos_token_id],
                pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
        texts += tokenizer.batch_decode(made[:, given["input_ids"].shape[1] :], skip_special_tokens=True)
        progress(min(1.0, (at + batch) / len(prompts)))
    return texts
