"""Importing a parent: a Hugging Face directory, the packaged SmolLM2-135M, or one that ships with hilnas, with text in
its own tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from foundation.errors import InvalidConfig
from nas.parent.store import TOKENIZER_FILES, ParentText, new_parent
from search_space.parents import parents_folder
from trainer.data.corpus import build_corpus
from trainer.data.own_tokens import HELD_OUT_SHARE, own_vocabulary_of
from trainer.data.sources import open_source
from trainer.data.token_dir import save_tokenizer
from trainer.teacher.directory import SMOLLM2, identity, teacher_directory

TEXTS, MAX_TOKENS = ("python:docs",), 1_500_000
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def import_parent(
    name: str, source: str, texts: Sequence[str] | None = None, max_tokens: int = MAX_TOKENS,
    cache: Path | None = None,
) -> Path:  # fmt: skip
    """The folder of the new parent. No ``texts`` (None) means the text that ships with the parent, else ``TEXTS``.

    Raises InvalidConfig for a source that is none, a name that cannot be one, and whatever of the model would be lost.
    """
    from nas.parent.packaged import packaged_names  # brings torch
    from search_space.modeling.families import load_directory

    if not NAME.fullmatch(name):
        raise InvalidConfig(f"a parent's name is up to 64 of a-z, 0-9, '.', '_', '-', got {name!r}")
    cache = cache or parents_folder().parent / "train/cache"
    if source in packaged_names():
        return _import_packaged(name, source, texts, max_tokens, cache)
    if source != SMOLLM2 and not (Path(source) / "config.json").exists():
        raise InvalidConfig(
            f"{source!r} is neither a parent that comes with hilnas ({', '.join((*packaged_names(), SMOLLM2))}) nor a"
            " Hugging Face directory with config.json"
        )
    texts = TEXTS if texts is None else texts
    origin = identity(source)
    folder = teacher_directory(source, cache)
    model = load_directory(folder)
    text = parent_text(folder, model.config.vocab_size, texts, max_tokens, cache) if texts else None
    with new_parent(parents_folder(), name, model, origin, family_name(folder), text, list(texts)) as partial:
        _copy_tokenizer(folder, partial)
    return parents_folder() / name


def _import_packaged(name: str, source: str, texts: Sequence[str] | None, max_tokens: int, cache: Path) -> Path:
    """With its tokenizer, its learnt blocks and, unless others are given, its own text."""
    from tokenizers import Tokenizer

    from nas.parent.activations import parent_digest
    from nas.parent.learn import BlockStore
    from nas.parent.packaged import packaged

    one = packaged(source)
    model, told = one.model(), one.about
    named = [entry["source"] for entry in told["texts"]] if texts is None else list(texts)
    with TemporaryDirectory() as folder:
        save_tokenizer(Tokenizer.from_str(one.tokenizer), Path(folder))
        text = one.text if texts is None else None
        if texts:
            text = parent_text(Path(folder), one.arch.vocab_size, texts, max_tokens, cache)
        origin = f"{source}: {told['origin']}"
        with new_parent(parents_folder(), name, model, origin, "hilnas", text, named, one.given) as partial:
            _copy_tokenizer(Path(folder), partial)
            one.put_blocks(BlockStore(partial / "blocks"), model, parent_digest(model))
    return parents_folder() / name


def _copy_tokenizer(source: Path, target: Path) -> None:
    for file in (source / part for part in TOKENIZER_FILES):
        if file.exists():
            (target / file.name).write_bytes(file.read_bytes())


def family_name(folder: Path) -> str:
    return str(json.loads((folder / "config.json").read_text())["model_type"])


def parent_text(folder: Path, vocab_size: int, texts: Sequence[str], max_tokens: int, cache: Path) -> ParentText:
    """Training and held-out text as the parent's tokenizer cuts it; documents of one are not in the other."""
    tokenizer, vocabulary = own_vocabulary_of(folder, vocab_size)
    sources = [open_source(spec, cache) for spec in texts]
    parts, _ = build_corpus(sources, tokenizer, vocabulary, max_tokens, HELD_OUT_SHARE)
    return ParentText(parts["train"], parts["held_out"], vocabulary.num_bytes)


__all__ = ["SMOLLM2", "import_parent", "parent_text"]
