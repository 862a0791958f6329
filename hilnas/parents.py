"""Importing a parent: a Hugging Face directory, or the packaged SmolLM2-135M, with text in its own tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from foundation.errors import InvalidConfig
from nas.parent.store import TOKENIZER_FILES, ParentText, new_parent
from search_space.parents import parents_folder
from trainer.data.corpus import build_corpus
from trainer.data.own_tokens import HELD_OUT_SHARE, own_vocabulary_of
from trainer.data.sources import open_source
from trainer.teacher.directory import SMOLLM2, identity, teacher_directory

TEXTS, MAX_TOKENS = ("python:docs",), 1_500_000
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def import_parent(
    name: str, source: str, texts: Sequence[str] = TEXTS, max_tokens: int = MAX_TOKENS, cache: Path | None = None
) -> Path:
    """The folder of the new parent. Raises InvalidConfig for a source that is none, a name that cannot be one, and
    whatever of the model would be lost."""
    from search_space.modeling.families import load_directory  # brings torch

    if not NAME.fullmatch(name):
        raise InvalidConfig(f"a parent's name is up to 64 of a-z, 0-9, '.', '_', '-', got {name!r}")
    cache = cache or parents_folder().parent / "train/cache"
    origin = identity(source)
    folder = teacher_directory(source, cache)
    model = load_directory(folder)
    text = parent_text(folder, model.config.vocab_size, texts, max_tokens, cache) if texts else None
    with new_parent(parents_folder(), name, model, origin, family_name(folder), text, list(texts)) as partial:
        for file in (folder / part for part in TOKENIZER_FILES):
            if file.exists():
                (partial / file.name).write_bytes(file.read_bytes())
    return parents_folder() / name


def family_name(folder: Path) -> str:
    return str(json.loads((folder / "config.json").read_text())["model_type"])


def parent_text(folder: Path, vocab_size: int, texts: Sequence[str], max_tokens: int, cache: Path) -> ParentText:
    """Training and held-out text as the parent's tokenizer cuts it; documents of one are not in the other."""
    tokenizer, vocabulary = own_vocabulary_of(folder, vocab_size)
    sources = [open_source(spec, cache) for spec in texts]
    parts, _ = build_corpus(sources, tokenizer, vocabulary, max_tokens, HELD_OUT_SHARE)
    return ParentText(parts["train"], parts["held_out"], vocabulary.num_bytes)


__all__ = ["SMOLLM2", "import_parent", "parent_text"]
