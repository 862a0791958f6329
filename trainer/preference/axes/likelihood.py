"""A judge that only reads: how likely the teacher finds each candidate, as its rank among those of one question. On
twelve pairs SmolLM2 ranks 11 right this way, and asked in words it always says A."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from tokenizers import Tokenizer

from foundation.measurement_lock import MeasurementLock
from trainer.data.chat import token_ids
from trainer.preference.candidates import Candidate, Question
from trainer.preference.jury import Scores, TeacherFolder
from trainer.teacher.model import load_teacher

MAX_TOKENS = 64


@dataclass(frozen=True)
class Likelihood:
    """Mean log-probability per token behind the prompt, of the first MAX_TOKENS, under the teacher in ``folder``.
    Abstains where a verifier knows better, and on an empty text."""

    folder: TeacherFolder
    name: ClassVar[str] = "likelihood"
    title: ClassVar[str] = "mean log-probability under the teacher, as a rank"

    def scores(self, question: Question, candidates: Sequence[Candidate]) -> Scores:
        if question.example is not None:
            return [None] * len(candidates)
        said = [self._encoded(candidate.text)[:MAX_TOKENS] for candidate in candidates]
        spoken = [i for i, ids in enumerate(said) if ids]
        if len(spoken) < 2:
            return [None] * len(said)
        found = self._means(self._encoded(question.prompt), [said[i] for i in spoken])
        ranks = dict(zip(spoken, (_rank(value, found) for value in found), strict=True))
        return [ranks.get(i) for i in range(len(said))]

    def _means(self, prompt: list[int], said: Sequence[list[int]]) -> list[float]:
        """All candidates of a question in one pass, padded at the end, which a causal model never reads."""
        width = max(map(len, said))
        ids_BT = torch.tensor([[*prompt, *ids, *[0] * (width - len(ids))] for ids in said])
        with MeasurementLock().shared(), torch.inference_mode():
            logits_BTV = self._model(ids_BT, use_cache=False, logits_to_keep=width + 1).logits[:, :-1].float()
        logprobs_BT = logits_BTV.log_softmax(-1).gather(2, ids_BT[:, -width:, None])[..., 0]
        return [float(row[: len(ids)].mean()) for row, ids in zip(logprobs_BT, said, strict=True)]

    def _encoded(self, text: str) -> list[int]:
        return token_ids(self._tokenizer, text)

    @cached_property
    def _model(self) -> Any:
        return load_teacher(self.folder)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer.from_file(str(self.folder / "tokenizer.json"))


def _rank(value: float, among: Sequence[float]) -> float:
    """Share of the others that are below, equal ones counting half."""
    others = np.asarray(among)
    below, equal = (others < value).sum(), (others == value).sum() - 1
    return float((below + 0.5 * equal) / (len(others) - 1))
