"""Whether checkpoints may be merged: one architecture, one vocabulary, equal key sets and shapes. Checked before
anything is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch

from foundation.errors import InvalidConfig
from trainer.merging.checkpoint import HEAD, Checkpoint

# entries of config.json that do not change what a weight means
INCIDENTAL = {
    "_name_or_path", "bos_token_id", "dtype", "eos_token_id", "initializer_range", "max_position_embeddings",
    "pad_token_id", "tie_word_embeddings", "torch_dtype", "transformers_version", "use_cache",
}  # fmt: skip


def agree(checkpoints: Sequence[Checkpoint]) -> None:
    """Compares all with the first; raises InvalidConfig with one sentence naming what differs. Of tied heads that are
    stored all the same, one copy is enough: they are forgotten here."""
    first, *others = checkpoints
    if all(checkpoint.ties_head for checkpoint in checkpoints):
        for checkpoint in checkpoints:
            checkpoint.tensors.pop(HEAD, None)
    for other in others:
        _same_config(first, other)
        _same_tensors(first, other)
        _same_tokens(first, other)
        _same_counters(first, other)


def _same_config(first: Checkpoint, other: Checkpoint) -> None:
    for key in sorted((set(first.config) | set(other.config)) - INCIDENTAL):
        ours, theirs = first.config.get(key), other.config.get(key)
        if ours != theirs:
            raise InvalidConfig(
                f"{other.name} and {first.name} differ in {key} of config.json ({_short(theirs)}, {_short(ours)});"
                " models to merge share their architecture"
            )


def _same_tensors(first: Checkpoint, other: Checkpoint) -> None:
    for one, another in ((first, other), (other, first)):
        if missing := sorted(set(one.tensors) - set(another.tensors)):
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise InvalidConfig(f"{another.name} lacks {missing[0]}{more}, which {one.name} has")
    for name, info in first.tensors.items():
        theirs = other.tensors[name]
        if theirs.shape != info.shape or theirs.is_float != info.is_float:
            raise InvalidConfig(
                f"{name} is {theirs.dtype} {list(theirs.shape)} in {other.name} and {info.dtype} {list(info.shape)} in"
                f" {first.name}; merging needs equal shapes"
            )


def _same_tokens(first: Checkpoint, other: Checkpoint) -> None:
    ours, theirs = token_ids(first), token_ids(other)
    if ours is None or theirs is None or ours == theirs:
        return
    token = min((set(ours.items()) ^ set(theirs.items())), key=lambda item: (item[1], item[0]))[0]
    raise InvalidConfig(
        f"the tokenizers of {other.name} and {first.name} differ, first at token {token!r} ({theirs.get(token)},"
        f" {ours.get(token)}); rows of the embedding would be mixed up"
    )


def _same_counters(first: Checkpoint, other: Checkpoint) -> None:
    for name, info in first.tensors.items():
        if not info.is_float and not torch.equal(first.read(name), other.read(name)):
            raise InvalidConfig(f"{name} is no floating-point tensor and differs between {other.name} and {first.name}")


def token_ids(checkpoint: Checkpoint) -> dict[str, int] | None:
    """Token -> id of tokenizer.json, None without one or where its model is no mapping."""
    path = checkpoint.folder / "tokenizer.json"
    if not path.exists():
        return None
    try:
        tokenizer = json.loads(path.read_text())
        vocabulary = tokenizer["model"]["vocab"]
        if isinstance(vocabulary, list):  # Unigram: [token, score] in the order of ids
            vocabulary = {entry[0]: index for index, entry in enumerate(vocabulary)}
        return vocabulary | {token["content"]: token["id"] for token in tokenizer.get("added_tokens", [])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidConfig(f"{path} is no tokenizer of the tokenizers library: {error!r}") from None


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
