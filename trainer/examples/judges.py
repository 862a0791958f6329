"""What judges and embeds texts with the teacher's weights: likelihood of an answer, mean embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from trainer.data.chat import answer_ids, token_ids
from trainer.tasks.base import Example
from trainer.teacher.model import load_teacher


@dataclass(frozen=True)
class TeacherJudge:
    """Mean log-probability (nats per token) of the answer given the prompt: low for what the teacher finds odd."""

    folder: Path

    @torch.inference_mode()
    def __call__(self, examples: Sequence[Example]) -> list[float]:
        return [self._score(example) for example in examples]

    def _score(self, example: Example) -> float:
        before = token_ids(self._tokenizer, example.conversation)
        said = answer_ids(self._tokenizer, example.answer)
        logits_TV = self._model(torch.tensor([before + said]), use_cache=False).logits[0, len(before) - 1 : -1].float()
        return float(logits_TV.log_softmax(-1).gather(1, torch.tensor(said)[:, None]).mean())

    @cached_property
    def _model(self) -> Any:
        return load_teacher(self.folder)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer.from_file(str(self.folder / "tokenizer.json"))

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Mean input embedding of a text's tokens, without what all texts share, at unit length [N, D]."""
        table = self._model.get_input_embeddings().weight.detach().float()
        means = torch.stack([table[token_ids(self._tokenizer, text)].mean(0) for text in texts])
        centred = means - means.mean(0) if len(texts) > 1 else means
        return torch.nn.functional.normalize(centred, dim=-1).numpy()
