"""A tokenizer learned from text: byte-level BPE, so that every text has an encoding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from trainer.data.chat import START, STOP
from trainer.data.vocabulary import DOCUMENT_END, Vocabulary

SPECIAL = (DOCUMENT_END[0], START, STOP)
MIN_VOCABULARY = 256 + len(SPECIAL)  # every byte, and the markers


def learn_tokenizer(
    documents: Iterable[str], vocab_size: int, special_tokens: Sequence[str] = SPECIAL
) -> Tokenizer:
    """At most ``vocab_size`` entries: fewer where the text has fewer pairs to merge."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=list(special_tokens), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(documents, trainer)
    return tokenizer


def own_vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    """Of a student without a teacher: every token stands for itself."""
    size, special = tokenizer.get_vocab_size(), {t.content for t in tokenizer.get_added_tokens_decoder().values()}
    tokens = [str(tokenizer.id_to_token(index)) for index in range(size)]
    end = next(tokens.index(token) for token in DOCUMENT_END if token in tokens)
    ids = np.arange(size, dtype=np.int32)
    return Vocabulary(
        teacher_ids=ids, flat=ids, offsets=np.arange(size + 1, dtype=np.int64), end=end, teacher_end=end,
        num_bytes=np.array([0 if token in special else len(token) for token in tokens], np.int32),
    )  # fmt: skip
