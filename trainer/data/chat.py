"""ChatML, the one prompt format, and its token ids.

Only the markers that stand here become control tokens. What users, documents, tools and teachers write is encoded as
text, also where it spells a marker.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

START, STOP = "<|im_start|>", "<|im_end|>"
Pieces = tuple[tuple[str, bool], ...]  # text, and whether it is a marker


class Prompt(str):
    """What a model reads, as text; ``pieces`` say which parts of it are markers."""

    pieces: Pieces

    def __new__(cls, pieces: Iterable[tuple[str, bool]]) -> Prompt:
        kept = tuple(pieces)
        made = super().__new__(cls, "".join(text for text, _ in kept))
        made.pieces = kept
        return made

    def __getnewargs__(self) -> tuple[Pieces]:  # type: ignore[override]
        return (self.pieces,)


def prompt_of(user: str, system: str = "", history: Sequence[tuple[str, str]] = ()) -> Prompt:
    """Everything before the model's turn; ``history`` are (role, text) of the turns since the user's."""
    turns = [*([("system", system)] if system else []), ("user", user), *history]
    return Prompt([piece for role, text in turns for piece in _turn(role, text)] + _answer_begins())


def reply_of_tool(text: str) -> Prompt:
    """What stands between a call, whose turn has ended, and the model's next turn."""
    return Prompt([("\n", False), *_turn("tool", text), *_answer_begins()])


def _turn(role: str, text: str) -> list[tuple[str, bool]]:
    return [(START, True), (f"{role}\n{text}", False), (STOP, True), ("\n", False)]


def _answer_begins() -> list[tuple[str, bool]]:
    return [(START, True), ("assistant\n", False)]


@dataclass(frozen=True)
class Encoded:
    """Token ids, and for each whether the model writes it (its answer and the end of its turn)."""

    ids: list[int]
    learned: list[bool]


def encode(tokenizer: Tokenizer, prompt: str, answer: str, end: int) -> Encoded:
    """One document: prompt, answer, end of turn, ``end``. Prompt and answer are encoded apart, as generation does."""
    before, written = token_ids(tokenizer, prompt), answer_ids(tokenizer, answer)
    return Encoded([*before, *written, end], [False] * len(before) + [True] * len(written) + [False])


def answer_ids(tokenizer: Any, answer: str) -> list[int]:
    return token_ids(tokenizer, Prompt([(answer, False), (STOP, True)]))


def token_ids(tokenizer: Any, text: str) -> list[int]:
    """Of a prompt, or of a text that has no markers at all; nothing is added at the ends. ``tokenizer`` is one of the
    package tokenizers, or one of transformers that wraps it."""
    backend: Tokenizer = tokenizer if isinstance(tokenizer, Tokenizer) else tokenizer.backend_tokenizer
    pieces = text.pieces if isinstance(text, Prompt) else ((text, False),)
    ids: list[int] = []
    for piece, is_marker in pieces:
        marker = backend.token_to_id(piece) if is_marker else None
        if marker is not None:
            ids.append(marker)
        elif _spells_a_token(backend, piece):
            ids += _without_added_tokens(backend, piece)
        else:
            ids += backend.encode(piece, add_special_tokens=False).ids
    return ids


def _spells_a_token(backend: Tokenizer, text: str) -> bool:
    """Whether encoding would find one of the tokenizer's added tokens, control or not, in ``text``."""
    normalized = backend.normalizer.normalize_str(text) if backend.normalizer else text
    added = backend.get_added_tokens_decoder().values()
    return any(token.content in text or token.content in normalized for token in added)


def _without_added_tokens(backend: Tokenizer, text: str) -> list[int]:
    """The tokenizer's own steps but for the first, which cuts added tokens out."""
    normalized = backend.normalizer.normalize_str(text) if backend.normalizer else text
    splitter = backend.pre_tokenizer
    words = [(normalized, None)] if splitter is None else splitter.pre_tokenize_str(normalized)
    return [token.id for word, _ in words for token in backend.model.tokenize(word)]
