"""What is evaluated and on what: a stage's model, held-out text, and how much of everything."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from foundation.errors import InvalidConfig
from search_space.modeling.model import HilnasForCausalLM
from trainer.data.token_dir import TokenDir
from trainer.data.vocabulary import Vocabulary
from trainer.engine.model_dir import ModelDir, on_device


@dataclass(frozen=True)
class Settings:
    """Every suite reads what it needs; any of them can be set for one suite alone.

    ``count`` is rows, needles or prompts; ``length`` is what the model was trained at; ``contexts`` are the lengths to
    retrieve from (``length``, twice and four times it when empty).
    """

    count: int = 32
    length: int = 256
    contexts: tuple[int, ...] = ()
    max_new_tokens: int = 64
    max_prompt: int = 2048
    seed: int = 0


@dataclass(frozen=True)
class Subject:
    """``folder`` takes answers to read later."""

    model: HilnasForCausalLM
    tokenizer: Any
    held_out: NDArray[np.int32]
    vocabulary: Vocabulary
    folder: Path
    settings: Settings

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def text_without_ends(self) -> NDArray[np.int32]:
        """All held-out documents in a row: for contexts longer than a document."""
        return self.held_out[self.held_out != self.vocabulary.end]


def open_subject(model: ModelDir, tokens: TokenDir, folder: Path, settings: Settings) -> Subject:
    """Raises InvalidConfig when the model reads other tokens than ``tokens`` has."""
    vocabulary, loaded = tokens.vocabulary(), model.load(dtype=torch.float32).eval()
    if loaded.config.vocab_size != vocabulary.size:
        raise InvalidConfig(
            f"{model.path} has {loaded.config.vocab_size} tokens and the data {vocabulary.size}; give its own data"
        )
    held_out = np.array(tokens.tokens("held_out"))
    return Subject(on_device(loaded), model.tokenizer(), held_out, vocabulary, folder, settings)
