"""Stage ``preference_data``: rollouts of a model to questions, a jury's verdicts, pairs of best and worst."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from foundation.errors import HilnasError
from search_space.modeling.model import HilnasForCausalLM
from trainer.data.token_dir import TokenDir
from trainer.engine.model_dir import ModelDir, on_device
from trainer.pipeline.brief import Brief
from trainer.pipeline.costing import Cost, Costing
from trainer.pipeline.fields import source
from trainer.pipeline.records import Records
from trainer.pipeline.stage import STAGES, Stage, StageContext, StageDir
from trainer.preference.axes import check_jury, jury_of
from trainer.preference.candidates import Candidate, Question, Rollouts, rolled_out, written
from trainer.preference.jury import Jury
from trainer.preference.pairs import PairsDir, counted, pair_of
from trainer.rollout.generation import encoded
from trainer.tasks.registry import task_named
from trainer.teacher.directory import teacher_directory

JUDGED = "judged.jsonl"
PART = 16  # questions between two saves


@STAGES.register("preference_data")
@dataclass(frozen=True)
class PairsStage(Stage):
    """``texts`` openings of training text and ``per_task`` training examples of each of ``tasks`` are asked. The
    teacher continues ``teacher_share`` of them too. ``jury`` names axes as trainer/preference/axes does."""

    kind: ClassVar[str] = "preference_data"
    title: ClassVar[str] = "rollouts, a jury's verdicts, pairs of best and worst"
    output: ClassVar[type[StageDir]] = PairsDir
    start: str = field(metadata=source(ModelDir))
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
    data: str = field(default="data", metadata=source(TokenDir))

    def __post_init__(self) -> None:
        check_jury(self.jury)
        for name in self.tasks:
            task_named(name)

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
        PairsDir(context.folder).write(pairs)
        if not pairs:
            raise HilnasError(f"no question of {len(rows)} gave a pair: {counted(row['reason'] for row in rows)}")
        return {"questions": len(rows), "too_long": too_long, "pairs": len(pairs), **_counts(rows, pairs)}

    def cost(self, costing: Costing) -> Cost:
        questions = self.texts + self.per_task * len(self.tasks)
        return costing.writing(questions * (self.rollouts.sampled + 1) * self.rollouts.max_new_tokens)

    def shortened(self, brief: Brief) -> PairsStage:
        return replace(self, texts=2, per_task=1, rollouts=replace(self.rollouts, sampled=2, max_new_tokens=8))


def _counts(rows: Sequence[dict[str, Any]], pairs: Sequence[dict[str, Any]]) -> dict[str, Any]:
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
        self.stage, self.context = stage, context
        self.start = context.read(ModelDir, stage.start)
        self.tokenizer: Any = self.start.tokenizer()

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
        spec, tokens = self.stage, self.context.read(TokenDir, self.stage.data)
        text = tokens.tokens("train")
        plain = text[text != tokens.vocabulary().end]
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
            scored = [
                {"origin": c.origin, "text": c.text, "total": total, **{name: s[i] for name, s in verdict.axes.items()}}
                for i, (c, total) in enumerate(zip(candidates, verdict.totals, strict=True))
            ]
            rows.append({
                "step": first + index, "prompt": question.prompt, "reason": reason, "candidates": scored,
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
        return on_device(self.start.load())

    @cached_property
    def folder(self) -> Path:
        return teacher_directory(self.stage.teacher, self.context.cache)

    @cached_property
    def jury(self) -> Jury:
        return jury_of(self.stage.jury, lambda: self.folder)


def _asks_teacher(index: int, share: float) -> bool:
    return int((index + 1) * share) > int(index * share)
