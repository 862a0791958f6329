"""Stage ``preference_data``: rollouts of a model to questions, a jury's verdicts, pairs of best and worst."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from foundation.errors import HilnasError
from foundation.files import write_atomically
from search_space.modeling.model import HilnasForCausalLM
from trainer.data.vocabulary import VOCABULARY, Vocabulary
from trainer.engine.launch import MODEL, whole_model
from trainer.examples.success import on_device
from trainer.pipeline.records import Records
from trainer.pipeline.stage import Stage, StageContext
from trainer.preference.axes import axis_named, jury_of
from trainer.preference.candidates import Candidate, Question, Rollouts, rolled_out, written
from trainer.preference.jury import Jury
from trainer.preference.pairs import Pair, counted, pair_of
from trainer.rollout.generation import encoded
from trainer.tasks.registry import task_named
from trainer.teacher.model import teacher_directory

PAIRS, JUDGED = "pairs.jsonl", "judged.jsonl"
PART = 16  # questions between two saves


@dataclass(frozen=True)
class PairsStage(Stage):
    """``texts`` openings of training text and ``per_task`` training examples of each of ``tasks`` are asked. The
    teacher continues ``teacher_share`` of them too. ``jury`` names axes as trainer/preference/axes does."""

    kind: ClassVar[str] = "preference_data"
    start: str
    teacher: str
    teacher_identity: str
    tasks: tuple[str, ...]
    texts: int = 120
    per_task: int = 20
    opening: int = 32
    teacher_share: float = 0.2
    jury: tuple[str, ...] = ("correct weight=3", "no_loop weight=2", "finished", "likelihood")
    rollouts: Rollouts = Rollouts()
    least_margin: float = 0.1
    max_prompt: int = 1024
    data: str = "data"

    def __post_init__(self) -> None:
        for text in self.jury:
            axis_named(text)

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.start, self.data)

    def run(self, context: StageContext) -> dict[str, Any]:
        work = _Work(self, context)
        questions, too_long = work.questions()
        if not questions:
            raise HilnasError(
                f"all {too_long} questions are longer than max_prompt {self.max_prompt}; give a higher one"
            )
        judged = Records(context.folder / JUDGED)
        judged.keep_until(len(judged.read()) // PART * PART)  # a part is drawn as a whole
        rows = judged.read()
        while len(rows) < len(questions):
            context.progress(len(rows) / len(questions), f"{len(rows)} of {len(questions)} questions judged")
            made = work.judged(questions[len(rows) : len(rows) + PART], len(rows))
            for row in made:
                judged.add(**row)
            rows += made
        pairs = [row["pair"] for row in rows if row["pair"]]
        write_atomically(context.folder / PAIRS, "".join(json.dumps(pair) + "\n" for pair in pairs))
        if not pairs:
            raise HilnasError(f"no question of {len(rows)} gave a pair: {counted(row['reason'] for row in rows)}")
        return {"questions": len(rows), "too_long": too_long, "pairs": len(pairs), **_told(rows, pairs)}

    def check(self, folder: Path) -> None:
        if not (folder / PAIRS).exists():
            raise HilnasError(f"{folder / PAIRS} is gone")


def _told(rows: Sequence[dict[str, Any]], pairs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    abstained: Counter[str] = Counter()
    for row in rows:
        abstained.update(row["abstained"])
    return {
        "reasons": counted(row["reason"] for row in rows), "abstained": dict(abstained),
        "chosen": counted(pair["chosen_origin"] for pair in pairs), "tasks": counted(pair["task"] for pair in pairs),
        "rejected": counted(pair["rejected_origin"] for pair in pairs),
    }  # fmt: skip


class _Work:
    """What one run of the stage holds: weights, tokenizer, jury."""

    def __init__(self, stage: PairsStage, context: StageContext) -> None:
        from transformers import AutoTokenizer

        self.stage, self.context = stage, context
        self.tokenizer: Any = AutoTokenizer.from_pretrained(context.inputs[stage.start] / MODEL)

    def questions(self) -> tuple[list[Question], int]:
        """In an order that mixes kinds, without those longer than max_prompt, which are counted."""
        asked = [e for name in self.stage.tasks for e in task_named(name).examples("train", self.stage.per_task)]
        prompts = [example.conversation for example in asked]
        rows = encoded(self.tokenizer, prompts)
        found = [Question(p, ids, e.answer, e) for p, ids, e in zip(prompts, rows, asked, strict=True)]
        short = [question for question in (*found, *self._openings()) if len(question.ids) <= self.stage.max_prompt]
        mixed = np.random.default_rng(self.stage.rollouts.seed).permutation(len(short))
        return [short[i] for i in mixed], len(found) + self.stage.texts - len(short)

    def _openings(self) -> list[Question]:
        folder, spec = self.context.inputs[self.stage.data], self.stage
        end, text = Vocabulary.load(folder / VOCABULARY).end, np.memmap(folder / "train.bin", np.int32, "r")
        plain = text[text != end]
        draw = np.random.default_rng(spec.rollouts.seed + 1)
        starts = draw.integers(max(1, len(plain) - spec.opening), size=spec.texts)
        rows = [plain[start : start + spec.opening].tolist() for start in starts]
        return [Question(self.tokenizer.decode(row), row, "") for row in rows]

    def judged(self, questions: Sequence[Question], first: int) -> list[dict[str, Any]]:
        """One line of the record per question."""
        own = rolled_out(self.model, self.tokenizer, questions, self.stage.rollouts, first)
        asked = [i for i in range(len(questions)) if _asks_teacher(first + i, self.stage.teacher_share)]
        texts = dict(zip(asked, self._taught([questions[i] for i in asked], first), strict=True))
        rows = []
        for index, question in enumerate(questions):
            candidates = [*own[index], *self._others(question, texts.get(index))]
            verdict = self.jury.verdict(question, candidates)
            pair, reason = pair_of(question, candidates, verdict, self.stage.least_margin)
            said = [
                {"origin": c.origin, "text": c.text, "total": total, **{name: s[i] for name, s in verdict.axes.items()}}
                for i, (c, total) in enumerate(zip(candidates, verdict.totals, strict=True))
            ]
            rows.append({
                "step": first + index, "prompt": question.prompt, "reason": reason, "candidates": said,
                "abstained": dict(verdict.abstained), "pair": pair.to_dict() if pair else None,
            })  # fmt: skip
        return rows

    def _taught(self, questions: Sequence[Question], first: int) -> list[str]:
        if not questions:
            return []
        from trainer.examples.teacher_writes import replies

        most = min(self.stage.rollouts.max_new_tokens, 64)
        return replies(self.folder, [q.prompt for q in questions], self.stage.rollouts.seed + first, most)

    def _others(self, question: Question, taught: str | None) -> list[Candidate]:
        most, made = self.stage.rollouts.max_new_tokens, []
        if question.given:
            made.append(written(self.tokenizer, question.given, "given", question, most))
        if taught:
            made.append(written(self.tokenizer, taught, "teacher", question, most))
        return [candidate for candidate in made if candidate is not None]

    @cached_property
    def model(self) -> HilnasForCausalLM:
        return on_device(whole_model(self.context.inputs[self.stage.start]))

    @cached_property
    def folder(self) -> Path:
        return teacher_directory(self.stage.teacher, self.context.cache)

    @cached_property
    def jury(self) -> Jury:
        return jury_of(self.stage.jury, lambda: self.folder)


def _asks_teacher(index: int, share: float) -> bool:
    return int((index + 1) * share) > int(index * share)


def read_pairs(path: Path) -> list[Pair]:
    return [Pair(**json.loads(line)) for line in path.read_text().splitlines()]
